# offers.zsh FOLDER LINE: what zsh offers at the end of a line, one a line, with FOLDER/_weir for the command. Completion works in
# an interactive shell alone: one is run behind a terminal of its own, and compadd says what it would offer.
zmodload zsh/zpty
zpty z zsh -f -i
send() {
  local line
  zpty -w z "$1"
  repeat 500; do
    zpty -r z line || break
    [[ $line == *weir-ok* && $line != *print* ]] && return
  done
}
send "PROMPT=; unsetopt prompt_cr; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -d $1/dump; print weir-ok"
cat >$1/setup.zsh <<'SETUP'
bindkey '^M' undefined
bindkey '^J' undefined
bindkey '^I' complete-word
zstyle ':completion:*' insert-tab false
comppostfuncs=( exit )
compadd() {
  # Asked to fill arrays it offers nothing.
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return $?; fi
  local -a hits
  local hit
  builtin compadd -A hits "$@"
  for hit in $hits; do print -r - "offer:$hit"; done
  (( ${#hits} ))
}
weir() { print -l - "$3-a" "$3-b" }
print weir-ok
SETUP
send "source $1/setup.zsh"
zpty -w z "$2"$'\t'
while zpty -r z; do :; done | while IFS= read -r line; do
  [[ $line == *offer:* ]] && print -r -- ${${line##*offer:}%$'\r'}
done
exit 0
