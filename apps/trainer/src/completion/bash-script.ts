/** @file The completion script for bash (3.2 and later). */
import type { CommandShape, ValueShape } from './command-shape.ts';

/** The script; source it. */
export function bashScript(commands: readonly CommandShape[]): string {
  return `# bash completion of moebius. To use it now: source <(moebius completion bash)
# For good: moebius completion bash > ~/.local/share/bash-completion/completions/moebius

# What can follow: sets words and paths (none, files or folders) for "COMMAND --flag"; false when the flag takes no value.
_moebius_value() {
  words='' paths=none
  case "$1" in
${valueCases(commands)}
    *) return 1 ;;
  esac
}

# Subcommands, flags and arguments of a command.
_moebius_command() {
  subcommands='' flags='' words='' paths=none
  case "$1" in
${commands.map(commandCase).join('\n')}
  esac
}

_moebius() {
  local current=\${COMP_WORDS[COMP_CWORD]} command='' skip='' word at
  local words paths subcommands flags IFS=$' \\t\\n'
  COMPREPLY=()
  for ((at = 1; at < COMP_CWORD; at++)); do
    word=\${COMP_WORDS[at]}
    if [[ $word == = ]]; then continue; fi
    if [[ -n $skip ]]; then skip=''; continue; fi
    if [[ $word == -* ]]; then
      if _moebius_value "$command $word"; then skip=$word; fi
      continue
    fi
    _moebius_command "$command"
    if [[ " $subcommands " == *" $word "* ]]; then command=\${command:+$command }$word; fi
  done
  if [[ $current == = ]]; then current=''; fi
  if [[ -n $skip ]]; then
    _moebius_value "$command $skip"
  else
    _moebius_command "$command"
    if [[ $current == -* ]]; then words=$flags paths=none; else words="$subcommands $words"; fi
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  IFS=$'\\n'
  if [[ $paths == files ]]; then COMPREPLY+=($(compgen -f -- "$current")); fi
  if [[ $paths == folders ]]; then COMPREPLY+=($(compgen -d -- "$current")); fi
  if [[ $paths != none ]]; then compopt -o filenames 2>/dev/null || true; fi
}

complete -F _moebius moebius
`;
}

function commandCase({ path, commands, flags, positional }: CommandShape): string {
  const names = commands.map(({ name }) => name).join(' ');
  const flagNames = flags.map(({ name }) => name).join(' ');
  return `    '${path}') subcommands='${names}' flags='${flagNames}' ${assignments(positional)} ;;`;
}

/** Flags with the same values share a line. */
function valueCases(commands: readonly CommandShape[]): string {
  const places = new Map<string, string[]>();
  for (const { path, flags } of commands) {
    for (const { name, value } of flags) {
      if (value === null) continue;
      const key = assignments(value);
      places.set(key, [...(places.get(key) ?? []), `'${path} ${name}'`]);
    }
  }
  return [...places].map(([key, patterns]) => `    ${patterns.join(' | ')}) ${key} ;;`).join('\n');
}

function assignments({ words, paths }: ValueShape): string {
  return `words='${words.join(' ')}' paths=${paths}`;
}
