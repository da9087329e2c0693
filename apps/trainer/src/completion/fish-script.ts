/** @file The completion script for fish (3 and later). */
import type { CommandShape, FlagShape, ValueShape } from './command-shape.ts';

/** The script; source it. */
export function fishScript(commands: readonly CommandShape[]): string {
  return `# fish completion of moebius. To use it now: moebius completion fish | source
# For good: moebius completion fish > ~/.config/fish/completions/moebius.fish

# Whether a flag of a command takes a value.
function __moebius_takes_value
    switch "$argv[1]"
        case ${valueFlags(commands).join(' ')}
            return 0
    end
    return 1
end

# Whether the words so far lead to this command.
function __moebius_at
    set -l command ''
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if string match -q -- '-*=*' $word
            continue
        else if string match -q -- '-*' $word
            if __moebius_takes_value "$command $word"
                set skip 1
            end
        else if contains -- (string trim "$command $word") ${commands.map(({ path }) => quote(path)).join(' ')}
            set command (string trim "$command $word")
        end
    end
    test "$command" = "$argv[1]"
end

complete -c moebius -f
${commands.flatMap(commandLines).join('\n')}
`;
}

function commandLines({ path, commands, flags, positional }: CommandShape): string[] {
  const at = `complete -c moebius -n ${quote(`__moebius_at ${quote(path)}`)}`;
  return [
    ...commands.map(({ name, description }) => `${at} -a ${name} -d ${quote(description)}`),
    ...flags.map((flag) => `${at} ${flagPart(flag)}`),
    ...(positional.words.length === 0 ? [] : [`${at} -a ${quote(positional.words.join(' '))}`]),
    ...(positional.paths === 'none' ? [] : [`${at} ${pathPart(positional)}`]),
  ];
}

function flagPart({ name, description, value }: FlagShape): string {
  const flag = `-l ${name.replace(/^--/, '')} -d ${quote(description)}`;
  if (value === null) return flag;
  const words = value.words.length === 0 ? '' : ` -a ${quote(value.words.join(' '))}`;
  if (value.paths === 'none') return `${flag} -x${words}`;
  return value.paths === 'files' ? `${flag} -r -F${words}` : `${flag} -x -a '(__fish_complete_directories)'`;
}

function pathPart({ paths }: ValueShape): string {
  return paths === 'files' ? '-F' : "-a '(__fish_complete_directories)'";
}

function valueFlags(commands: readonly CommandShape[]): string[] {
  return commands.flatMap(({ path, flags }) =>
    flags.filter(({ value }) => value !== null).map(({ name }) => quote(`${path} ${name}`)),
  );
}

function quote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
