/** @file Every command line of ours that somebody can read: in Markdown, and in the help texts of the sources. */
import { readFileSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';

/** A command line as it is written. */
export interface WrittenCommand {
  /** File relative to the root of the repository, and line. */
  readonly place: string;
  /** The words behind `moebius`, as a shell gives them. */
  readonly words: readonly string[];
  /** Whether it shows a form (`<model>`, `RUN…`, `a|b`) rather than something to type. */
  readonly isForm: boolean;
}

/** History tells what was true then; the others are made by programs or not ours. */
const skipped = new Set([
  'node_modules',
  'dist',
  '.git',
  '.turbo',
  'api',
  '__fixtures__',
  'CHANGELOG.md',
  'LOG.md',
  'runs',
]);
const shellFences = new Set(['sh', 'shell', 'bash', 'console', '']);
const program = /^(?:\$ +)?(?:[A-Z_]+=\S+ +)*(?:npx +)?(?:moebius|@moebius\/trainer)(?: +|$)/;

/** Commands of every Markdown file below a folder, and of the examples in the help texts of `apps/trainer/src`. */
export function writtenCommands(root: string): WrittenCommand[] {
  return filesBelow(root).flatMap((file) => {
    const shown = relative(root, file);
    if (file.endsWith('.md')) return markdownCommands(shown, readFileSync(file, 'utf8'));
    return /^apps\/trainer\/src\/.*(?<!\.test)\.ts$/.test(shown)
      ? helpCommands(shown, readFileSync(file, 'utf8'))
      : [];
  });
}

/** Those in shell blocks, and those in `code` in the text. */
export function markdownCommands(file: string, text: string): WrittenCommand[] {
  const found: WrittenCommand[] = [];
  let fence: string | undefined;
  let begun = '';
  text.split('\n').forEach((line, index) => {
    const place = `${file}:${index + 1}`;
    const mark = /^\s*```(\S*)/.exec(line);
    if (mark !== null) fence = fence === undefined ? mark[1] : undefined;
    else if (fence === undefined) found.push(...inlineCommands(place, line));
    else if (shellFences.has(fence)) {
      begun += line.replace(/\\$/, ' ');
      if (line.endsWith('\\')) return;
      found.push(...lineCommands(place, begun.trim()));
      begun = '';
    }
  });
  return found;
}

/** Those behind `$` in a help text; two spaces end a command there, and what follows explains it. */
export function helpCommands(file: string, text: string): WrittenCommand[] {
  return text.split('\n').flatMap((line, index) => {
    const command = /(?:^|\\n) +\$ (moebius [^'`]*)/.exec(line)?.[1] ?? '';
    return lineCommands(`${file}:${index + 1}`, command.replace(/ {2,}\S.*$/, ''));
  });
}

/** In a sentence a name alone, or one with placeholders, speaks of the command. */
function inlineCommands(place: string, line: string): WrittenCommand[] {
  return [...line.matchAll(/`([^`]+)`/g)]
    .flatMap(([, code = '']) => lineCommands(place, code.replaceAll('\\|', '|'), /[…<[|]|^[a-z@/ ]*$/))
    .filter(({ words }) => words.length > 0);
}

function lineCommands(place: string, line: string, form = /[^\s\S]/): WrittenCommand[] {
  const start = program.exec(line)?.[0];
  if (start === undefined) return [];
  const rest = line.slice(start.length);
  if (form.test(rest))
    return [{ place, words: rest.split(/\s+/).filter((word) => word !== ''), isForm: true }];
  return [{ place, words: shellWords(rest), isForm: false }];
}

/** Words of the first command of a line: quotes are taken off; a comment, a pipe or a redirection ends it. */
export function shellWords(line: string): string[] {
  const words: string[] = [];
  for (const [part] of line.matchAll(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g)) {
    if (/^(#|\||>|<$|&|;|2>)/.test(part)) break;
    words.push(part.replaceAll(/"([^"]*)"|'([^']*)'/g, '$1$2').replace(/;$/, ''));
    if (part.endsWith(';')) break;
  }
  return words;
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (skipped.has(entry.name)) return [];
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}
