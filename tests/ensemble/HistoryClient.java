import java.io.FileWriter;
import java.io.PrintWriter;
import java.util.ArrayDeque;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/**
 * A client of the workload that uses Apache's own library. What it does and writes down is in workload.py and
 * history.py; arguments: SERVERS NAME SEED TIMEOUT_MS OUT. It works until SIGTERM and closes its session.
 */
public final class HistoryClient {
    private static final String ROOT = "/history", QUEUE = ROOT + "/queue", EPHEMERALS = ROOT + "/ephemerals";
    private static final int COUNTERS = 4, PAUSE_MS_MAX = 30, CONNECT_SECONDS_MAX = 60;

    private final String servers, name;
    private final int wishMs;
    private final Random random;
    private final PrintWriter out;
    private final ArrayDeque<String> ephemerals = new ArrayDeque<>();
    private volatile boolean stopping;
    private ZooKeeper client;
    private long number;

    private HistoryClient(String[] args) throws Exception {
        servers = args[0];
        name = args[1];
        random = new Random(Long.parseLong(args[2]));
        wishMs = Integer.parseInt(args[3]);
        out = new PrintWriter(new FileWriter(args[4]), true);
    }

    public static void main(String[] args) throws Exception {
        HistoryClient it = new HistoryClient(args);
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            it.stopping = true;
            try {
                main.join(10_000);
            } catch (InterruptedException ended) {
                Thread.currentThread().interrupt();
            }
        }));
        it.open();
        while (!it.stopping) {
            try {
                it.step();
            } catch (KeeperException.SessionExpiredException expired) {
                it.client.close();
                it.open();
            } catch (KeeperException answered) {
                // It stands in the history.
            }
            Thread.sleep(it.random.nextInt(PAUSE_MS_MAX));
        }
        Record close = it.new Record("close", "");
        it.client.close();
        close.write("ok", "");
    }

    private void open() throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        client = new ZooKeeper(servers, wishMs, event -> {
            if (event.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
        });
        connected.await(CONNECT_SECONDS_MAX, TimeUnit.SECONDS);
    }

    private void step() throws Exception {
        String counter = ROOT + "/counter-" + random.nextInt(COUNTERS);
        switch (random.nextInt(10)) {
            case 0: case 1: case 2: case 3: increment(counter); break;
            case 4: case 5: enqueue(); break;
            case 6: case 7: sync(counter); get(counter); break;
            case 8: ownEphemeral(); break;
            default: observe();
        }
    }

    private void increment(String path) throws Exception {
        int version = get(path).getVersion();
        String value = value();
        Record record = new Record("set", path).with("expected", version).with("value", value);
        Stat stat = record.run(() -> client.setData(path, value.getBytes(), version));
        record.with("zxid", stat.getMzxid()).with("version", stat.getVersion()).write("ok", "");
    }

    private Stat get(String path) throws Exception {
        Stat stat = new Stat();
        Record record = new Record("get", path);
        byte[] data = record.run(() -> client.getData(path, false, stat));
        record.with("zxid", stat.getMzxid()).with("version", stat.getVersion()).with("value", new String(data));
        record.write("ok", "");
        return stat;
    }

    private void enqueue() throws Exception {
        create(QUEUE + "/n-", value(), CreateMode.PERSISTENT_SEQUENTIAL);
    }

    private void ownEphemeral() throws Exception {
        if (ephemerals.size() >= 3) {
            String path = ephemerals.poll();
            Record record = new Record("delete", path);
            record.run(() -> { client.delete(path, -1); return null; });
            record.write("ok", "");
        }
        String value = value(), path = EPHEMERALS + "/" + value.replace('/', '-');
        create(path, value, CreateMode.EPHEMERAL);
        ephemerals.add(path);
    }

    private void create(String path, String value, CreateMode mode) throws Exception {
        Stat stat = new Stat();
        Record record = new Record("create", path).with("value", value);
        if (mode == CreateMode.EPHEMERAL) {
            record.fields.append(", \"ephemeral\": true");
        }
        String made = record.run(() -> client.create(path, value.getBytes(), ZooDefs.Ids.OPEN_ACL_UNSAFE, mode, stat));
        record.with("zxid", stat.getCzxid()).with("made", made).write("ok", "");
    }

    private void sync(String path) throws Exception {
        Record record = new Record("sync", path);
        CountDownLatch done = new CountDownLatch(1);
        int[] code = new int[1];
        record.run(() -> {
            client.sync(path, (rc, p, context) -> { code[0] = rc; done.countDown(); }, null);
            done.await();
            if (code[0] != 0) {
                throw KeeperException.create(KeeperException.Code.get(code[0]));
            }
            return null;
        });
        record.write("ok", "");
    }

    private void observe() throws Exception {
        Stat stat = new Stat();
        Record record = new Record("children", EPHEMERALS);
        List<String> names = record.run(() -> client.getChildren(EPHEMERALS, false, stat));
        StringBuilder list = new StringBuilder();
        for (String each : names) {
            list.append(list.length() == 0 ? "" : ", ").append('"').append(each).append('"');
        }
        record.fields.append(", \"names\": [").append(list).append(']');
        record.with("zxid", stat.getPzxid()).write("ok", "");
    }

    private String value() {
        number++;
        return name + "/" + number;
    }

    /** One line of the history. */
    private final class Record {
        private final StringBuilder fields = new StringBuilder();
        private final long begin = System.nanoTime();

        Record(String op, String path) {
            text("op", op).text("path", path).text("client", name);
            text("session", Long.toHexString(client.getSessionId()));
            with("timeout_ms", client.getSessionTimeout());
        }

        Record text(String key, String value) {
            fields.append(fields.length() == 0 ? "" : ", ");
            fields.append('"').append(key).append("\": \"").append(value).append('"');
            return this;
        }

        Record with(String key, long value) {
            fields.append(", \"").append(key).append("\": ").append(value);
            return this;
        }

        Record with(String key, String value) {
            return text(key, value);
        }

        /** Performs the request; one that failed is written down here. */
        <T> T run(Callable<T> request) throws Exception {
            try {
                return request.call();
            } catch (KeeperException error) {
                switch (error.code()) {
                    case CONNECTIONLOSS: case OPERATIONTIMEOUT: case SESSIONEXPIRED: case SESSIONMOVED:
                        write("unknown", error.code().name());
                        break;
                    default:
                        write("refused", error.code().name());
                }
                throw error;
            }
        }

        void write(String result, String error) {
            text("result", result).text("error", error);
            double end = System.nanoTime() / 1e9;
            out.printf(Locale.ROOT, "{%s, \"begin\": %.6f, \"end\": %.6f}%n", fields, begin / 1e9, end);
        }
    }
}
