#!/bin/sh
# The health check of docker-compose.yml asks for this name; the pinned jars hold no command-line tools, so this opens the
# port that is named after --bootstrap-server.
exec python3 -c 'import socket, sys; host, port = sys.argv[2].split(":"); socket.create_connection((host, int(port)), 5)' "$@"
