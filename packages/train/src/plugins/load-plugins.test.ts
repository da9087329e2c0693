import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { builtInRouters } from '@moebius/routing/gates';
import { afterAll, describe, expect, it } from 'vitest';

import { parseTrainConfig } from '../trainer/train-config.ts';
import type { TrainConfigInput } from '../trainer/train-config.ts';
import { loadPlugins } from './load-plugins.ts';
import { loadRunPlugins } from './run-plugins.ts';

/** A project with modules of all sorts. They mark plug-ins by hand, as another copy of core would. */
const from = mkdtempSync(join(tmpdir(), 'moebius-plugins-'));
afterAll(() => rmSync(from, { recursive: true, force: true }));
const define = (kind: string, name: string): string =>
  `Object.defineProperty({ kind: '${kind}', name: '${name}' }, Symbol.for('moebius.plugin'), { value: true })`;
const files = {
  'package.json': '{ "dependencies": { "moebius-losses": "1.0.0", "closed": "1.0.0" } }',
  'node_modules/moebius-losses/package.json': '{ "type": "module", "exports": "./main.js" }',
  'node_modules/moebius-losses/main.js': [
    `export const even = ${define('balance-loss', 'even')};`,
    'export { even as default };',
    `export const watch = ${define('callback', 'watch')};`,
    'export const version = 3;',
  ].join('\n'),
  'node_modules/closed/package.json': '{ "type": "module", "exports": { "./other": "./main.js" } }',
  'watch.mjs': `export const watch = ${define('callback', 'watch')};`,
  'route.mjs': `export const route = ${define('router', 'far')};`,
  'fast.mjs': `export const fast = ${define('executor', 'fast')};`,
  'relu.mjs': `export const kind = ${define('expert', 'far-relu')};`,
  'far-kind.mjs': `export const far = ${define('drafter', 'far')};`,
  'family.mjs': [
    "const create = (place, options) => ({ made: 'by family', place, options });",
    "const plugin = { kind: 'router-factory', name: 'family', create };",
    "export const family = Object.defineProperty(plugin, Symbol.for('moebius.plugin'), { value: true });",
  ].join('\n'),
  'taken.mjs': `export const loss = ${define('balance-loss', 'load-balance')};`,
  'plain.mjs': 'export const lr = 1; export function go() {}',
  'throwing.mjs': 'throw new RangeError("no such device");',
};
for (const [name, text] of Object.entries(files)) {
  mkdirSync(dirname(join(from, name)), { recursive: true });
  writeFileSync(join(from, name), text);
}

async function messageOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return (error as Error).message.replaceAll(from, '<project>');
  }
  return 'no error';
}

const names = async (...specifiers: string[]): Promise<string[]> =>
  (await loadPlugins(specifiers, { from })).map(
    ({ plugin, specifier }) => `${plugin.kind} ${plugin.name} of ${specifier}`,
  );

describe('loadPlugins', () => {
  it('collects what packages and files export, once each, in order', async () => {
    expect(await names('./fast.mjs', 'moebius-losses', './fast.mjs')).toEqual([
      'executor fast of ./fast.mjs',
      'balance-loss even of moebius-losses',
      'callback watch of moebius-losses',
    ]);
    expect(await names(join(from, 'route.mjs'))).toEqual([`router far of ${join(from, 'route.mjs')}`]);
    expect(await names()).toEqual([]);
  });

  it('names the module that is not there and the nearest one that is', async () => {
    expect(await messageOf(names('moebius-lossses'))).toBe(
      'plugins "moebius-lossses": must be found from <project>, got no such module (did you mean "moebius-losses"?)',
    );
    expect(await messageOf(names('./wacth.mjs'))).toContain('(did you mean "watch.mjs"?)');
    expect(await messageOf(names('quite-another'))).toContain(
      '(npm i quite-another, or begin a path with ./)',
    );
    expect(await messageOf(names('./gone/far.mjs'))).toContain('(name an existing file)');
  });

  it('says what a module lacks: an entry, a plug-in, a load without an error', async () => {
    expect(await messageOf(names('closed'))).toContain('plugins "closed": must export its entry');
    expect(await messageOf(names('./plain.mjs'))).toBe(
      'plugins "./plain.mjs": must export a plug-in made by defineRouter, defineExpert, defineBalanceLoss, defineExecutor, defineCallback, …, got the exports go, lr',
    );
    expect(await messageOf(names('./throwing.mjs'))).toBe(
      'plugins "./throwing.mjs": must load, got "no such device" from <project>/throwing.mjs (fix the module, or leave it out)',
    );
  });

  it('refuses two plug-ins of one kind and name', async () => {
    expect(await messageOf(names('moebius-losses', './watch.mjs'))).toBe(
      'plugins: names of one kind must be unique, got callback "watch" from "moebius-losses" and from "./watch.mjs" (leave one out)',
    );
  });
});

describe('the plug-ins of a run', () => {
  const run = (parts: Partial<TrainConfigInput>): ReturnType<typeof loadRunPlugins> =>
    loadRunPlugins(parseTrainConfig({ model: 'folder', duration: { steps: 1 }, ...parts }), { from });

  it('are all callbacks, and the losses and the executor that the configuration names', async () => {
    const plugins = ['moebius-losses', './fast.mjs'];
    const all = await run({ plugins, losses: { balance: { even: 0.25 } }, executor: 'fast' });
    expect(all.callbacks.map(({ name }) => name)).toEqual(['watch']);
    expect(all.balance.map(({ loss, coefficient }) => [loss.name, coefficient])).toEqual([['even', 0.25]]);
    expect(all.executor?.name).toBe('fast');
    const unnamed = await run({ plugins });
    expect(unnamed.balance).toEqual([]);
    expect(unnamed.executor).toBeUndefined();
    expect(await run({})).toEqual({ callbacks: [], balance: [], executor: undefined, parts: {} });
  });

  it('must be of a kind that a run takes, with a name that is free', async () => {
    expect(await messageOf(run({ plugins: ['./far-kind.mjs'] }))).toBe(
      'plugins "./far-kind.mjs": must be of kind callback, balance-loss, executor, optimizer, router, router-factory, expert, got "far" of kind "drafter" (a run takes no plug-ins of that kind: use it in your own code)',
    );
    expect(await messageOf(run({ plugins: ['./taken.mjs'] }))).toContain(
      'got "load-balance", which is built in',
    );
  });

  it('must have the names that the configuration uses', async () => {
    const plugins = ['moebius-losses', './fast.mjs'];
    expect(await messageOf(run({ plugins, losses: { balance: { evem: 1 } } }))).toBe(
      'losses.balance.evem: must name a plug-in of kind balance-loss (even, load-balance, first-choice-balance, device-balance, communication-balance, null-expert-balance, localized-balance, importance, load-estimate, mutual-information, sparsity, z-loss, entropy, confidence, expert-count, orthogonality), got "evem" (did you mean "even"?)',
    );
    expect(await messageOf(run({ plugins, losses: { balance: { fast: 1 } } }))).toContain(
      'got "fast" of kind "executor"',
    );
    expect(await messageOf(run({ executor: 'fast' }))).toBe(
      'executor: must name a plug-in of kind executor (none), got "fast" (add its module to plugins)',
    );
  });

  it('are the router and the kind of experts that it names', async () => {
    const plugins = ['./route.mjs', './family.mjs', './relu.mjs'];
    const plain = await run({ plugins, router: { name: 'far' }, expertKind: 'far-relu' });
    expect(plain.parts).toMatchObject({
      router: { kind: 'router', name: 'far' },
      experts: { name: 'far-relu' },
    });
    expect(plain.parts.plugins?.map(({ name }) => name)).toEqual(['far', 'family', 'far-relu']);
    const { parts } = await run({ plugins, router: { name: 'family', temperature: 0.1 } });
    const place = { layer: 0, place: 0, sparseLayers: 1, experts: 4, topK: 2, modelWidth: 8 };
    const make = parts.router as unknown as (at: typeof place) => unknown;
    expect(make(place)).toEqual({ made: 'by family', place, options: { temperature: 0.1 } });
    expect((await run({ expertKind: 'plain-relu-bias' })).parts.experts).toMatchObject({ kind: 'expert' });
  });

  it('must exist, and a router that is not made from options has none', async () => {
    const plugins = ['./route.mjs', './family.mjs', './relu.mjs'];
    const known = ['far', 'family', ...builtInRouters().map(({ name }) => name)].join(', ');
    expect(await messageOf(run({ plugins, router: { name: 'famly' } }))).toBe(
      `router.name: must name a plug-in of kind router (${known}), got "famly" (did you mean "family"?)`,
    );
    expect(await messageOf(run({ router: { name: 'noisy-topk' } }))).toContain(
      '(did you mean "noisy-top-k"?)',
    );
    expect(await messageOf(run({ plugins, router: { name: 'far', temperature: 1 } }))).toBe(
      'router: must have no options beside name, because "far" is a router and no factory, got temperature (make it with defineRouterFactory)',
    );
    expect(await messageOf(run({ plugins, expertKind: 'far-rely' }))).toContain(
      'got "far-rely" (did you mean "far-relu"?)',
    );
    expect(await messageOf(run({ expertKind: 'plain-rellu' }))).toContain('(did you mean "plain-relu"?)');
  });
});
