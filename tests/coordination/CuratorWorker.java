import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.StandardLockInternalsDriver;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.data.Stat;

/**
 * Contenders that use Curator: one thread for each GROUP=DIRECTORY argument, in one session, until the process is killed.
 * What a holder does is described in section.py; this is the same in Java.
 *
 * Usage: CuratorWorker HOST:PORT SESSION_MS GROUP=DIRECTORY...
 */
public final class CuratorWorker {
    private static final int SECTION_MS_MAX = 20;

    /** Takes notice of kazoo's names too: Curator's own driver puts what it does not know behind itself. */
    private static final class EverybodyDriver extends StandardLockInternalsDriver {
        private static final Pattern SEQUENCE = Pattern.compile("-?\\d{10}$");

        @Override
        public String fixForSorting(String name, String lockName) {
            Matcher matcher = SEQUENCE.matcher(name.replace("-lock-", "_lock_"));
            return matcher.find() ? matcher.group() : name;
        }
    }

    private final CuratorFramework client;
    private final String group;
    private final Path directory;

    private CuratorWorker(CuratorFramework client, String group, String directory) {
        this.client = client;
        this.group = group;
        this.directory = Path.of(directory);
    }

    public static void main(String[] arguments) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(
                arguments[0], Integer.parseInt(arguments[1]), 15_000, new ExponentialBackoffRetry(50, 10));
        client.start();
        for (String argument : List.of(arguments).subList(2, arguments.length)) {
            String[] parts = argument.split("=", 2);
            new Thread(new CuratorWorker(client, parts[0], parts[1])::work).start();
        }
    }

    private void work() {
        try {
            while (true) {
                turn();
                pause();
            }
        } catch (Throwable error) {
            // A contender that gives up silently would look like a lost wake-up.
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }

    private void turn() throws Exception {
        String path = "/" + group;
        boolean shared = ThreadLocalRandom.current().nextBoolean();
        switch (group) {
            case "lock" -> locked(new InterProcessMutex(client, path, new EverybodyDriver()), false);
            case "lock-curator" -> locked(new InterProcessMutex(client, path), false);
            case "rw-curator" -> {
                InterProcessReadWriteLock lock = new InterProcessReadWriteLock(client, path);
                locked(shared ? lock.readLock() : lock.writeLock(), shared);
            }
            case "election-curator" -> selected(path);
            case "latch" -> latched(path);
            default -> throw new IllegalArgumentException(group);
        }
    }

    private void locked(InterProcessLock lock, boolean shared) throws Exception {
        lock.acquire();
        try {
            section(shared);
        } finally {
            lock.release();
        }
    }

    private void selected(String path) throws Exception {
        CountDownLatch done = new CountDownLatch(1);
        LeaderSelector selector = new LeaderSelector(client, path, new LeaderSelectorListenerAdapter() {
            @Override
            public void takeLeadership(CuratorFramework client) throws Exception {
                section(false);
                done.countDown();
            }
        });
        selector.start();
        done.await();
        selector.close();
    }

    private void latched(String path) throws Exception {
        try (LeaderLatch latch = new LeaderLatch(client, path, "curator")) {
            latch.start();
            latch.await();
            section(false);
        }
    }

    private void section(boolean shared) throws Exception {
        long pid = ProcessHandle.current().pid();
        String name = (shared ? "reader-" : "writer-") + pid + "-" + ThreadLocalRandom.current().nextLong(1L << 60);
        Path mark = directory.resolve(name);
        Path unfinished = directory.resolve("." + name);
        Files.writeString(unfinished, "curator " + pid + " " + startTime(Long.toString(pid)));
        Files.move(unfinished, mark);
        for (String other : others(mark, shared)) {
            violation("entered while there was " + other);
        }
        if (shared) {
            pause();
        } else {
            count();
        }
        String mode = shared ? "shared" : "exclusive";
        // The clock of Python's time.monotonic().
        append("turns", System.nanoTime() / 1e9 + " curator " + mode + " 0\n");
        Files.delete(mark);
    }

    private void count() throws Exception {
        Stat stat = new Stat();
        String counter = "/counters/" + group;
        int value = Integer.parseInt(new String(client.getData().storingStatIn(stat).forPath(counter)));
        pause();
        try {
            client.setData().withVersion(stat.getVersion()).forPath(counter, Integer.toString(value + 1).getBytes());
        } catch (KeeperException.BadVersionException error) {
            violation("somebody else has counted meanwhile");
        }
    }

    private List<String> others(Path own, boolean shared) throws IOException {
        List<String> found = new ArrayList<>();
        try (DirectoryStream<Path> marks = Files.newDirectoryStream(directory, shared ? "writer-*" : "{writer,reader}-*")) {
            for (Path mark : marks) {
                if (mark.equals(own)) {
                    continue;
                }
                String[] parts;
                try {
                    parts = Files.readString(mark).split(" ");
                } catch (IOException gone) {
                    continue;
                }
                if (parts.length == 3 && parts[2].equals(startTime(parts[1]))) {
                    found.add(parts[0] + " " + mark.getFileName());
                } else {
                    Files.deleteIfExists(mark);
                }
            }
        }
        return found;
    }

    /** As section.py does it; null if the process has ended. */
    private static String startTime(String pid) {
        try {
            String stat = Files.readString(Path.of("/proc", pid, "stat"));
            String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
            return fields[0].equals("Z") || fields[0].equals("X") ? null : fields[19];
        } catch (IOException gone) {
            return null;
        }
    }

    private void violation(String text) throws IOException {
        append("violations", "curator: " + text + "\n");
    }

    private void append(String name, String line) throws IOException {
        Files.writeString(directory.resolve(name), line, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    private static void pause() throws InterruptedException {
        Thread.sleep(ThreadLocalRandom.current().nextInt(SECTION_MS_MAX));
    }
}
