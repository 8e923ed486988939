#!/usr/bin/env bash
# curl, with a jar in a file of the folder it runs in. Each line of standard input is a method, a path and perhaps a body; each line of the
# output a status and a body. The anti-CSRF token is that of the answer that had one last.
set -euo pipefail
base=$1 token=

curl --version | head -n 1
while read -r method path body; do
  options=(--silent --request "$method" --cookie jar --cookie-jar jar --dump-header headers --output answer)
  [[ -z $token ]] || options+=(--header "anti-csrf: $token")
  [[ $method = GET ]] || options+=(--data "$body")
  : > answer
  status=$(curl "${options[@]}" --write-out '%{http_code}' "$base$path")
  new=$(sed -n 's/^anti-csrf: \(.*\)\r$/\1/Ip' headers)
  token=${new:-$token}
  echo "$status $(tr '\n' ' ' < answer)"
done
