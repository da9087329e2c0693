import { execFile } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { type Engine, type EngineOptions } from '../../src/engine/create-engine.ts';
import { planEngine } from '../../src/setup/setup-engine.ts';
import { bundleForNode } from './bundle.ts';

interface Result {
  readonly engine?: Engine;
  readonly product?: number[];
  readonly same?: boolean;
  readonly error?: string;
  readonly known?: boolean;
}

let driver: string;
let scratch: string;
beforeAll(async () => {
  driver = await bundleForNode('engine-driver');
  scratch = mkdtempSync(join(tmpdir(), 'moebius-engine-'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

async function start(
  ...orders: EngineOptions[]
): Promise<{ results: Result[]; messages: string[]; threads: number; stderr: string }> {
  const environment: Record<string, string | undefined> = { ...process.env, NODE_OPTIONS: '' };
  for (const name of ['TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS', 'OMP_NUM_THREADS']) {
    delete environment[name];
  }
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [driver, JSON.stringify(orders)], {
    env: environment,
  });
  return { ...(JSON.parse(stdout) as { results: Result[]; messages: string[]; threads: number }), stderr };
}

/** A cache with the real library and a copy of the real addon, to be damaged. */
function copyOfCache(name: string): { cacheFolder: string; addon: string; library: string } {
  const cacheFolder = join(scratch, name);
  const real = planEngine().layout;
  const copy = planEngine({ cacheFolder }).layout;
  mkdirSync(copy.library, { recursive: true });
  cpSync(real.addon, copy.addon, { recursive: true });
  cpSync(join(real.library, 'stamp.json'), join(copy.library, 'stamp.json'));
  for (const file of ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2', 'include']) {
    symlinkSync(join(real.library, file), join(copy.library, file));
  }
  return { cacheFolder, addon: join(copy.addon, 'moebius.node'), library: copy.library };
}

describe('auto', () => {
  it('takes the native engine when it is set up, says so in one line, and TensorFlow stays silent', async () => {
    const { results, messages, stderr } = await start({});
    expect(results[0]).toMatchObject({ product: [17, 39], same: true });
    expect(results[0]?.engine).toMatchObject({
      name: 'native',
      backendName: 'tensorflow',
      fallbackReason: '',
    });
    expect(messages).toEqual([results[0]?.engine?.description]);
    expect(messages[0]).toMatch(
      /^native: TensorFlow 2\.21\.0, TensorFlow\.js 4\.22\.0, \d+ threads?, .*\(it is set up\)$/,
    );
    expect(stderr).toBe('');
  });

  it('takes wasm when nothing is set up, and says why and what to do', async () => {
    const { results } = await start({ cacheFolder: join(scratch, 'empty') });
    expect(results[0]).toMatchObject({
      product: [17, 39],
      engine: { name: 'wasm', backendName: 'wasm', fused: false, threads: 1 },
    });
    expect(results[0]?.engine?.description).toMatch(
      /SIMD, 1 thread \(the native engine did not start: .*npx @moebius\/tensor setup/,
    );
  });

  it('takes wasm when the addon was cut off', async () => {
    const copy = copyOfCache('short-addon');
    truncateSync(copy.addon, 1000);
    const { results } = await start({ cacheFolder: copy.cacheFolder });
    expect(results[0]?.engine).toMatchObject({ name: 'wasm' });
    expect(results[0]?.engine?.fallbackReason).toMatch(/moebius\.node: must be \d+ bytes, got 1000/);
  });

  it('takes wasm when the addon has the right size and the wrong bytes', async () => {
    const copy = copyOfCache('wrong-addon');
    writeFileSync(copy.addon, Buffer.alloc(statSync(copy.addon).size));
    const { results } = await start({ cacheFolder: copy.cacheFolder });
    expect(results[0]?.engine).toMatchObject({ name: 'wasm' });
    expect(results[0]?.engine?.fallbackReason).toMatch(
      /addon: must load .*invalid ELF header \(npx @moebius\/tensor setup --force\)/,
    );
  });

  it('takes wasm when the library is gone', async () => {
    const copy = copyOfCache('no-library');
    rmSync(join(copy.library, 'libtensorflow_cc.so.2'));
    const { results } = await start({ cacheFolder: copy.cacheFolder });
    expect(results[0]?.engine?.fallbackReason).toContain('libtensorflow_cc.so.2: missing');
  });

  it('finds the native engine in another cache folder', async () => {
    const { cacheFolder, addon } = copyOfCache('whole');
    expect(dirname(addon).startsWith(scratch)).toBe(true);
    expect((await start({ cacheFolder })).results[0]?.engine).toMatchObject({ name: 'native' });
  });
});

describe('asking for one engine', () => {
  it('wasm and cpu are given as asked', async () => {
    const [wasm, cpu] = await Promise.all([start({ engine: 'wasm' }), start({ engine: 'cpu' })]);
    expect(wasm.results[0]).toMatchObject({
      product: [17, 39],
      engine: { name: 'wasm', backendName: 'wasm', fallbackReason: '' },
    });
    expect(cpu.results[0]).toMatchObject({
      product: [17, 39],
      engine: { name: 'cpu', backendName: 'cpu', threads: 1 },
    });
    expect(wasm.stderr + cpu.stderr).toBe('');
  });

  it('native that is not set up is an error, and leaves the process free for another engine', async () => {
    const { results } = await start(
      { engine: 'native', cacheFolder: join(scratch, 'empty') },
      { engine: 'wasm' },
    );
    expect(results[0]).toMatchObject({ known: true });
    expect(results[0]?.error).toMatch(
      /TensorFlow library: must be set up in .*no readable stamp\.json \(npx @moebius\/tensor setup\)/,
    );
    expect(results[1]).toMatchObject({ product: [17, 39], engine: { name: 'wasm' } });
  });

  it('a second engine in one process is refused with both named; the same or auto is given', async () => {
    const { results, messages } = await start(
      { engine: 'wasm' },
      { engine: 'cpu' },
      { engine: 'wasm' },
      { engine: 'auto' },
    );
    expect(results[1]).toMatchObject({ known: true });
    expect(results[1]?.error).toMatch(
      /one process has one engine, wasm with 1 threads runs, got a request for cpu/,
    );
    expect(results[2]?.engine?.name).toBe('wasm');
    expect(results[3]?.engine?.name).toBe('wasm');
    expect(messages).toHaveLength(1);
  });

  it('an unknown name or a bad thread count is refused before anything is loaded', async () => {
    const { results } = await start({ engine: 'gpu' as 'cpu' }, { threads: 0 }, { threads: 1.5 });
    expect(results.map(({ known }) => known)).toEqual([true, true, true]);
    expect(results[0]?.error).toContain('must be auto, native, wasm or cpu, got gpu');
    expect(results[1]?.error).toContain('must be a whole number from 1 to 1024, got 0');
  });
});

describe('threads', () => {
  it('are what TensorFlow starts: four more threads asked for are four more in the process', async () => {
    const one = await start({ engine: 'native', threads: 1 });
    const five = await start({ engine: 'native', threads: 5 });
    expect(one.results[0]?.engine).toMatchObject({ threads: 1 });
    expect(five.results[0]?.engine?.description).toContain('5 threads');
    expect(five.threads - one.threads).toBeGreaterThanOrEqual(4);
  });

  it('another count in the same process is refused', async () => {
    const { results } = await start({ engine: 'native', threads: 1 }, { threads: 2 }, { threads: 1 });
    expect(results[1]?.error).toMatch(
      /native with 1 threads runs, got a request for auto with 2 threads \(start a second process\)/,
    );
    expect(results[2]?.same).toBe(true);
  });
});

describe('the stock library', () => {
  /** tfjs-node as its install script leaves it; the addon is ours, because no other one can be had offline. */
  function stockProject(name: string, options: { version?: string; addon?: boolean } = {}): string {
    const project = join(scratch, name);
    const folder = join(project, 'node_modules', '@tensorflow', 'tfjs-node-gpu');
    const { sources, layout } = planEngine();
    mkdirSync(join(folder, 'lib', 'napi-v8'), { recursive: true });
    symlinkSync(join(sources.tfjsNode, 'dist'), join(folder, 'dist'));
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ version: options.version ?? '4.22.0' }));
    if (options.addon !== false) {
      symlinkSync(join(layout.addon, 'moebius.node'), join(folder, 'lib', 'napi-v8', 'tfjs_binding.node'));
    }
    return project;
  }

  it('runs when asked for, with portable bodies, and says so', async () => {
    const project = stockProject('stock');
    const { results } = await start({ engine: 'native', library: 'stock', resolveFrom: [project] });
    expect(results[0]).toMatchObject({ product: [17, 39], engine: { name: 'native', fused: false } });
    expect(results[0]?.engine?.description).toMatch(/no fused kernels: the stock library has none/);
  });

  it('without its addon: what to install, and auto falls back to wasm', async () => {
    const project = stockProject('stock-without', { addon: false });
    const order = { library: 'stock', resolveFrom: [project] } as const;
    const { results } = await start({ ...order, engine: 'native' }, { ...order, engine: 'auto' });
    expect(results[0]?.error).toMatch(
      /stock library: must be .* its install script did not run .*npm i @tensorflow/,
    );
    expect(results[1]?.engine).toMatchObject({ name: 'wasm' });
  });

  it('of another version is not taken', async () => {
    const project = stockProject('stock-old', { version: '4.20.0' });
    const { results } = await start({ engine: 'native', library: 'stock', resolveFrom: [project] });
    expect(results[0]?.error).toMatch(/tfjs-node-gpu 4\.20\.0, not 4\.22\.0/);
  });

  it('is the only other choice', async () => {
    const order = { engine: 'native', library: 'other' } as unknown as EngineOptions;
    const { results } = await start(order);
    expect(results[0]?.error).toMatch(/library: must be current or stock, got other/);
  });
});
