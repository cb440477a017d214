#!/bin/bash
# Sends the recordings that were published before scalelite_post_publish.rb was installed. Run as root.
#
#   scalelite_batch_import.sh          those that were not sent yet
#   scalelite_batch_import.sh --all    all of them, again
#
# The exit status is 1 if any could not be sent; another run goes on with those.
set -u

scripts=${BBB_SCRIPTS:-/usr/local/bigbluebutton/core/scripts}
status=${BBB_STATUS:-/var/bigbluebutton/recording/status/published}
all=no

case "${1-}" in
    '') ;;
    --all) all=yes ;;
    *)
        echo "Usage: ${0##*/} [--all]" >&2
        exit 2
        ;;
esac

cd "$scripts" || exit 2

# As BigBlueButton runs it: its own user, and the group that may write to the spool, where there is one.
as_user=()
if [ "$(id -u)" -eq 0 ] && id bigbluebutton > /dev/null 2>&1; then
    as_user=(sudo -n -u bigbluebutton)
    if getent group scalelite-spool > /dev/null; then
        as_user+=(-g scalelite-spool)
    fi
fi

shopt -s nullglob
declare -A seen=()
sent=0 failed=0
for file in "$status"/*.done; do
    name=${file##*/}
    id=${name%-*}
    if [ -n "${seen[$id]-}" ]; then
        continue
    fi
    seen[$id]=yes
    if [ "$all" = no ] && [ -e "$status/$id-sender.done" ]; then
        continue
    fi
    if "${as_user[@]}" ruby post_publish/scalelite_post_publish.rb -m "$id" < /dev/null; then
        sent=$((sent + 1))
    else
        failed=$((failed + 1))
    fi
done
echo "$sent sent, $failed failed"
[ "$failed" -eq 0 ]
