#!/bin/sh
# Called as "configure" by dpkg, and with the number of versions by rpm. A first installation starts
# nothing: it has no key, no database and no Envoy yet. The package is installed although the service
# does not start.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
case "${1:-}" in
configure | [0-9]*) ;;
*) exit 0 ;; # dpkg undoes an upgrade
esac
# After an upgrade, where it runs.
if systemctl is-active --quiet sessiongate.service; then
  # With two roles the schema comes first: the new version waits for it, and the former one runs on it.
  if [ -e /etc/sessiongate/credentials/owner-password ] && ! systemctl start sessiongate-migrate.service; then
    echo "the schema is not migrated, and the former version runs on: see journalctl -u sessiongate-migrate" >&2
    exit 0
  fi
  systemctl try-restart sessiongate.service ||
    echo "sessiongate does not start: see journalctl -u sessiongate" >&2
fi
