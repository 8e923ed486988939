#!/bin/sh
# Called as "configure" by dpkg, and with the number of versions by rpm. A first installation starts
# nothing: it has no key, no database and no Envoy yet.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # After an upgrade, where it runs. The package is installed although the service does not start.
  systemctl try-restart sessiongate.service ||
    echo "sessiongate does not start: see journalctl -u sessiongate" >&2
fi
