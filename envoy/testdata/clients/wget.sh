#!/usr/bin/env bash
# wget, with a jar in a file of the folder it runs in, or, where the second argument is "bearer", with the tokens in headers. Each line of
# standard input is a method, a path and perhaps a body; each line of the output a status and a body. Each token is that of the answer that
# had one last.
set -euo pipefail
base=$1 transport=$2 token='' access='' refresh=''

# header prints the value of a header of the last answer.
header() { sed -n "s/^  $1: //Ip" log | tr -d '\r'; }

wget --version | head -n 1
touch jar
while read -r method path body; do
  options=(--method="$method" --output-document=answer --output-file=log --server-response --content-on-error --tries=1)
  [[ $method = GET ]] || options+=(--body-data="$body")
  if [[ $transport = cookies ]]; then
    options+=(--load-cookies=jar --save-cookies=jar --keep-session-cookies ${token:+--header="anti-csrf: $token"})
  else
    bearer=$access
    [[ $path != */refresh ]] || bearer=$refresh
    options+=(--header="st-auth-mode: header" ${bearer:+--header="Authorization: Bearer $bearer"})
  fi
  : > answer
  wget "${options[@]}" "$base$path" || true # it ends with 8 for a status that is an error
  new=$(header anti-csrf) token=${new:-$token}
  new=$(header st-access-token) access=${new:-$access}
  new=$(header st-refresh-token) refresh=${new:-$refresh}
  echo "$(sed -n 's/^  HTTP\/1.1 \([0-9]*\).*/\1/p' log | tail -n 1) $(tr '\n' ' ' < answer)"
done
