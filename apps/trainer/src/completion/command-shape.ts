/** @file The command line as plain data, for completion scripts: names, flags, and what their values can be. */
import { corpusNames } from '@moebius/train';
import type { Argument, Command, Option } from 'commander';

import { engineChoices } from '../engine-flags.ts';
import { recipes } from '../recipes/registry.ts';

/** What a value can be. */
export interface ValueShape {
  /** Words that can be offered. */
  readonly words: readonly string[];
  /** Whether paths can be offered too. */
  readonly paths: 'none' | 'files' | 'folders';
}

/** One flag. */
export interface FlagShape {
  /** `--name`. */
  readonly name: string;
  /** What help says. */
  readonly description: string;
  /** Null when the flag stands alone. */
  readonly value: ValueShape | null;
}

/** One command; the first of a list is the program itself. */
export interface CommandShape {
  /** Words that lead to it: empty for the program, `tokenizer train`. */
  readonly path: string;
  /** What help says. */
  readonly description: string;
  /** Subcommands by name, with what help says. */
  readonly commands: readonly { readonly name: string; readonly description: string }[];
  /** Its own flags and those of the program. */
  readonly flags: readonly FlagShape[];
  /** What can stand without a flag; none when it takes nothing. */
  readonly positional: ValueShape;
}

const nothing: ValueShape = { words: [], paths: 'none' };
const files: ValueShape = { words: [], paths: 'files' };
const folders: ValueShape = { words: [], paths: 'folders' };
const text: ValueShape = { words: corpusNames, paths: 'files' };

/** By the placeholder in a flag or the name of an argument; others are free text. */
const byPlaceholder: { readonly [placeholder: string]: ValueShape } = {
  file: files,
  files,
  path: files,
  source: text,
  folder: folders,
  model: folders,
  models: folders,
  runs: folders,
  tokenizer: files,
};

/** Flags whose placeholder is too general. */
const byFlag: { readonly [flag: string]: ValueShape } = {
  '--recipe': { words: recipes.names(), paths: 'none' },
  '--engine': { words: engineChoices, paths: 'none' },
};

/** Every command of a program, each before its subcommands. */
export function describeCommands(program: Command): CommandShape[] {
  const general = program.options.filter(({ long }) => long !== '--version').map(describeFlag);
  const help: FlagShape = {
    name: '--help',
    description: 'what the command does, with examples',
    value: null,
  };
  const visit = (command: Command, path: string): CommandShape[] => {
    const inner = command.commands.filter((child) => child.name() !== 'help');
    const own = command === program ? [] : command.options.map(describeFlag);
    return [
      {
        path,
        description: command.description(),
        commands: inner.map((child) => ({ name: child.name(), description: child.description() })),
        flags: [...own, ...general, help],
        positional: describeArgument(command.registeredArguments),
      },
      ...inner.flatMap((child) => visit(child, `${path} ${child.name()}`.trim())),
    ];
  };
  return visit(program, '');
}

function describeFlag(option: Option): FlagShape {
  const name = option.long ?? option.flags;
  const takes = option.required || option.optional;
  const placeholder = /[<[]([^\]>.]+)/.exec(option.flags)?.[1] ?? '';
  const words = option.argChoices;
  const value =
    words === undefined ? (byFlag[name] ?? byPlaceholder[placeholder] ?? nothing) : { ...nothing, words };
  return { name, description: option.description, value: takes ? value : null };
}

function describeArgument([first]: readonly Argument[]): ValueShape {
  if (first === undefined) return nothing;
  const words = first.argChoices;
  return words === undefined ? (byPlaceholder[first.name()] ?? nothing) : { ...nothing, words };
}
