/** @file A model whose router is a plug-in: opened by every command with `--plugin`, and by none without it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { beforeAll, describe, expect, it } from 'vitest';

import { buildCli, makeProject, moebius, parseEvents } from './built-cli.ts';
import type { Outcome } from './built-cli.ts';

const routing = pathToFileURL(join(import.meta.dirname, '../../../packages/routing/dist/index.js')).href;
const plugin = `
import { defineRouter, defineRouterFactory, parseGateConfig, topKRouter } from '${routing}';
globalThis.process.stderr.write('the plug-in runs\\n');
export const sharp = defineRouterFactory({
  name: 'sharp',
  create: ({ experts, topK }, { scale }) =>
    defineRouter({ ...topKRouter(parseGateConfig({ experts, topK, scale })), name: 'sharp', gate: undefined }),
});`;

let cwd = '';
beforeAll(() => {
  buildCli();
  cwd = makeProject();
  writeFileSync(join(cwd, 'sharp.mjs'), plugin);
  const tiny = JSON.parse(readFileSync(join(cwd, 'run.json'), 'utf8')) as object;
  const config = { ...tiny, plugins: ['./sharp.mjs'], router: { name: 'sharp', scale: 2 } };
  writeFileSync(join(cwd, 'sharp.json'), JSON.stringify(config));
  const place = ['--out', 'runs/sharp', '--no-sample', '--json'];
  const { status, error } = run('train', '--config', 'sharp.json', '--steps', '3', ...place);
  expect([status, error]).toEqual([0, 'the plug-in runs\n']);
}, 300_000);

function run(...parameters: string[]): Outcome {
  return moebius(parameters, { cwd });
}

const commands = {
  generate: ['generate', 'runs/sharp', '--prompt', 'The', '--max-tokens', '3', '--json'],
  eval: ['eval', 'runs/sharp', '--data', 'texts', '--max-tokens', '200', '--json'],
  inspect: ['inspect', 'runs/sharp', '--text', 'texts', '--max-tokens', '200', '--json'],
};
const answers = { generate: 'text', eval: 'evaluate', inspect: 'routing' };

describe.each(Object.keys(commands) as (keyof typeof commands)[])('%s', (name) => {
  it('opens the model with --plugin', () => {
    const { status, out, error } = run(...commands[name], '--plugin', './sharp.mjs');
    expect([status, error]).toEqual([0, 'the plug-in runs\n']);
    expect(parseEvents(out).map(({ event }) => event)).toContain(answers[name]);
  });
  it('does not run code because a folder names it: the error says what to give', () => {
    const { status, error } = run(...commands[name]);
    expect(status).toBe(2);
    expect(error).not.toContain('the plug-in runs');
    expect(error).toMatch(/must name a router that is given \(none\) or built in, got "sharp" \(.*--plugin/u);
  });
});

it('says which module is missing', () => {
  const { status, error } = run(...commands.generate, '--plugin', './shrap.mjs');
  expect(status).toBe(2);
  expect(error).toMatch(/plugins ".\/shrap.mjs": must be found from .*did you mean "sharp.mjs"\?/u);
});
