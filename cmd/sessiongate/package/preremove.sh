#!/bin/sh
# Not for an upgrade: dpkg says "upgrade", rpm the number of versions that stay.
set -e
case "${1:-}" in
remove | 0)
  if [ -d /run/systemd/system ]; then
    systemctl disable --now sessiongate.service
  else
    rm -f /etc/systemd/system/multi-user.target.wants/sessiongate.service
  fi
  ;;
esac
