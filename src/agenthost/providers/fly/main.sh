# The main program of a machine: runs what the host sends, then ends with the guest, and the machine with it.
# Nothing else ends a machine of Fly.
#
#   main.sh DIRECTORY END
#
# END is in seconds since the epoch. By the clock, not by a count of seconds: a machine may be suspended.
umask 077
cd "$1" || exit 1
late() { [ "$(date +%s)" -ge "$1" ]; }
limit=$(($(date +%s) + 120))
# A machine that starts again has lost its guest, also one that was to be resumed with its memory.
mkdir begun || exit 1
: >out

# The host sends this within seconds after the start. One that has died never does.
until [ -e run.sh ]; do
    late "$limit" && exit 1
    sleep 0.1
done
(
    sh run.sh >out 2>err </dev/null
    echo $? >code.new
    mv code.new code
) &
until [ -e code ]; do
    late "$2" && exit 1
    sleep 0.1
done
rm -f run.sh
if [ "$(cat code)" != 0 ]; then
    sleep 60 # the host reads why, and ends the machine
    exit 1
fi
# The guest writes this a moment after its start has returned.
limit=$(($(date +%s) + 60))
until [ -s guest.sock.pid ]; do
    late "$limit" && exit 1
    sleep 0.1
done
read -r guest <guest.sock.pid
while kill -0 "$guest" 2>/dev/null; do
    late "$2" && exit 1
    sleep 1
done
