# Completion of sessiongate for fish. Try it:  sessiongate completion fish | source
# For good:  sessiongate completion fish > ~/.config/fish/completions/sessiongate.fish

function __sessiongate_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    # The program as it was typed, without an evaluation of what stands on the line.
    set -l program (string replace -r '^~' $HOME -- $words[1])
    for line in ($program complete -- $words[2..-1] "$word" 2>/dev/null)
        if test "$line" != :files
            echo $line
        else if string match -q -- '--*=*' "$word"
            set -l flag (string replace -r '=.*' '=' -- "$word")
            for path in (__fish_complete_path (string replace -r '^[^=]*=' '' -- "$word"))
                echo $flag$path
            end
        else
            __fish_complete_path "$word"
        end
    end
end
complete -c sessiongate -f -a '(__sessiongate_complete)'
