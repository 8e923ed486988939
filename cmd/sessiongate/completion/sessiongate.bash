# Completion of sessiongate for bash (4.4 or newer). Try it:  source <(sessiongate completion bash)
# For good:  sessiongate completion bash > ~/.local/share/bash-completion/completions/sessiongate

_sessiongate() {
  local -a words=() lines=()
  local word joined=false line before i
  # Readline breaks words at = and :, the program does not.
  for ((i = 1; i <= COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if ((${#words[@]})) && { $joined || [[ $word == [=:]* ]]; }; then
      words[-1]+=$word
    else
      words+=("$word")
    fi
    [[ $word == [=:]* ]] && joined=true || joined=false
  done
  # What of the last word is not readline's to replace.
  before=${words[-1]}
  [[ $word == [=:]* ]] || before=${before%"$word"}

  COMPREPLY=()
  # The program as it was typed, without an evaluation of what stands on the line.
  mapfile -t lines < <("${COMP_WORDS[0]/#\~/$HOME}" complete -- "${words[@]}" 2> /dev/null)
  for line in "${lines[@]}"; do
    if [[ $line == :files ]]; then
      compopt -o default # readline's own names of files
      continue
    fi
    line=${line%%$'\t'*}
    [[ $line == "${words[-1]}"* ]] && COMPREPLY+=("${line#"$before"}")
  done
}
complete -F _sessiongate sessiongate
