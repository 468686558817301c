#!/usr/bin/env bash
# What `grange queue work` runs in work_queue.py: notes the begin and the end of the item on standard input in $JOURNAL.
# One of fifty items fails the first time.
read -r item
echo "$item begin $EPOCHREALTIME" >>"$JOURNAL"
if [ "$GRANGE_ATTEMPT" = 1 ] && [ $((item % 50)) = 7 ]; then
    echo "$item failed $EPOCHREALTIME" >>"$JOURNAL"
    exit 1
fi
echo "$item done $EPOCHREALTIME" >>"$JOURNAL"
