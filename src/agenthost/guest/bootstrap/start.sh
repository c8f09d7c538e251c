# Runs inside: finds a Python that can run the rest. Prints JSON lines, as prepare.py does.
umask 077
for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    if "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 </dev/null; then
        exec "$python" -I "$1/prepare.py" "$@"
    fi
done
echo '{"missing": ["Python 3.10 or newer"]}'
exit 1
