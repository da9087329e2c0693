/** @file The completion script for zsh. */
import type { CommandShape, ValueShape } from './command-shape.ts';

/** The script; a file named `_moebius` in a folder of `fpath`, or sourced after `compinit`. */
export function zshScript(commands: readonly CommandShape[]): string {
  return `#compdef moebius
# zsh completion of moebius. To use it now: source <(moebius completion zsh)
# For good: moebius completion zsh > a folder of your fpath, as _moebius

# Offers what a flag takes; false when it takes nothing. With "ask" it only answers.
_moebius_value() {
  case "$1" in
${valueCases(commands)}
    *) return 1 ;;
  esac
}

_moebius_offer() {
  if [[ $1 == ask ]]; then return 0; fi
  if [[ -n $3 ]]; then compadd -- \${=3}; fi
  if [[ $2 == files ]]; then _files; fi
  if [[ $2 == folders ]]; then _files -/; fi
  return 0
}

_moebius_command() {
  case "$1" in
${commands.map(commandCase).join('\n')}
  esac
}

_moebius() {
  local command='' skip='' word
  local -a subcommands flags names
  local positional_paths positional_words
  for word in \${words[2,CURRENT-1]}; do
    if [[ -n $skip ]]; then skip=''; continue; fi
    if [[ $word == -*=* ]]; then continue; fi
    if [[ $word == -* ]]; then
      if _moebius_value "$command $word" ask; then skip=$word; fi
      continue
    fi
    _moebius_command "$command"
    names=("\${(@)subcommands%%:*}")
    if (( \${names[(Ie)$word]} )); then command="\${command:+$command }$word"; fi
  done
  if [[ -n $skip ]]; then
    _moebius_value "$command $skip" offer
    return
  fi
  _moebius_command "$command"
  if [[ \${words[CURRENT]} == -* ]]; then
    _describe -o 'flag' flags
    return
  fi
  if (( \${#subcommands} )); then _describe 'command' subcommands; fi
  _moebius_offer offer $positional_paths "$positional_words"
}

if [[ $funcstack[1] == _moebius ]]; then _moebius "$@"; elif (( $+functions[compdef] )); then compdef _moebius moebius; fi
`;
}

function commandCase({ path, commands, flags, positional }: CommandShape): string {
  return `    '${path}')
      subcommands=(${commands.map(entry).join(' ')})
      flags=(${flags.map(entry).join(' ')})
      positional_paths=${positional.paths} positional_words='${positional.words.join(' ')}' ;;`;
}

/** `'name:description'`, with the colons of the description escaped. */
function entry({ name, description }: { readonly name: string; readonly description: string }): string {
  return `'${name}:${description.replaceAll("'", "'\\''").replaceAll(':', '\\:')}'`;
}

function valueCases(commands: readonly CommandShape[]): string {
  const places = new Map<string, string[]>();
  for (const { path, flags } of commands) {
    for (const { name, value } of flags) {
      if (value === null) continue;
      const key = offer(value);
      places.set(key, [...(places.get(key) ?? []), `'${path} ${name}'`]);
    }
  }
  return [...places].map(([key, patterns]) => `    ${patterns.join(' | ')}) ${key} ;;`).join('\n');
}

function offer({ words, paths }: ValueShape): string {
  return `_moebius_offer "$2" ${paths} '${words.join(' ')}'`;
}
