#compdef sessiongate
# Completion of sessiongate for zsh. Try it:  source <(sessiongate completion zsh)
# For good:  sessiongate completion zsh > a folder of $fpath, under the name _sessiongate

_sessiongate() {
  local -a lines described
  local line file=
  # The program as it was typed, without an evaluation of what stands on the line.
  lines=("${(@f)$("${words[1]/#\~/$HOME}" complete -- "${(@Q)words[2,CURRENT]}" 2> /dev/null)}")
  for line in $lines; do
    if [[ $line == :files ]]; then
      file=1
    else # a colon parts a word from its description
      described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    fi
  done
  if (( $#described )); then
    _describe -t sessiongate sessiongate described
  fi
  if [[ -n $file ]]; then
    compset -P '--*='
    _files
  fi
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _sessiongate "$@"
else
  compdef _sessiongate sessiongate
fi
