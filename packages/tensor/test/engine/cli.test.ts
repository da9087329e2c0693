import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { bundleForNode } from './bundle.ts';

interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

let cli: string;
let scratch: string;
beforeAll(async () => {
  cli = await bundleForNode('cli', '../src');
  scratch = mkdtempSync(join(tmpdir(), 'moebius-cli-'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function run(parameters: readonly string[], environment: Record<string, string> = {}): Promise<Run> {
  return new Promise((resolve) => {
    const options = {
      env: { ...process.env, NODE_OPTIONS: '', ...environment },
      cwd: scratch,
      timeout: 300_000,
    };
    execFile(process.execPath, [cli, ...parameters], options, (error, stdout, stderr) => {
      resolve({
        code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1,
        stdout,
        stderr,
      });
    });
  });
}

describe('moebius-tensor setup', () => {
  it('finds the engine of this machine ready and says so; --quiet says nothing', async () => {
    const told = await run(['setup']);
    expect(told).toMatchObject({ code: 0, stderr: '' });
    expect(told.stdout).toMatch(
      /^native engine ready: TensorFlow 2\.21\.0 with(out)? fused kernels.*; nothing to do\n$/,
    );
    expect(await run(['setup', '--quiet'])).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  it('--json prints one object that a program can read', async () => {
    const { code, stdout } = await run(['setup', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      ready: true,
      changed: false,
      tensorflow: '2.21.0',
      steps: [],
    });
  });

  it('ends with 2 when there is no native engine, with the reason on stderr or as JSON', async () => {
    const wheel = join(scratch, 'not-a-wheel.whl');
    writeFileSync(wheel, 'nothing');
    const cache = join(scratch, 'cache');
    const told = await run(['setup', '--cache', cache, '--wheel', wheel]);
    expect(told).toMatchObject({ code: 2, stdout: '' });
    expect(told.stderr).toMatch(
      /^no native engine: .*expected \d+ bytes, got 7 .*\nthe wasm engine works without it/,
    );
    const json = await run(['setup', '--wheel', wheel, '--json'], { MOEBIUS_CACHE: cache });
    expect(json.code).toBe(2);
    expect(JSON.parse(json.stdout)).toMatchObject({
      ready: false,
      error: { code: 'engine', stage: 'verify' },
    });
  });
});

describe('moebius-tensor doctor', () => {
  it('examines the native engine, multiplies, and ends with 0', async () => {
    const { code, stdout, stderr } = await run(['doctor']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^ok +TensorFlow library +\//m);
    expect(stdout).toMatch(/^ok +addon +\//m);
    expect(stdout).toMatch(/^chosen +native: TensorFlow 2\.21\.0/m);
    expect(stdout).toMatch(/^matmul +256×256: correct; fastest (512×512|1024×1024): [\d.]+ GFLOP\/s$/m);
  });

  it('explains an empty cache, works on wasm, and ends with 2', async () => {
    const { code, stdout } = await run(['doctor', '--cache', join(scratch, 'empty'), '--json']);
    expect(code).toBe(2);
    const report = JSON.parse(stdout) as { findings: { subject: string; state: string; found: string }[] };
    expect(report).toMatchObject({ engine: { name: 'wasm' }, matmul: { correct: true }, failure: '' });
    const library = report.findings.find(({ subject }) => subject === 'TensorFlow library');
    expect(library).toMatchObject({ state: 'missing' });
    expect(library?.found).toContain('(npx @moebius/tensor setup)');
  });

  it('ends with 1 when the engine asked for does not start', async () => {
    const { code, stdout } = await run(['doctor', '--cache', join(scratch, 'empty'), '--engine', 'native']);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^no engine: TensorFlow library: must be set up/m);
  });
});

describe('the command line', () => {
  it('has help with examples and exit codes for every command', async () => {
    for (const parameters of [['--help'], ['setup', '--help'], ['doctor', '--help']]) {
      const { code, stdout } = await run(parameters);
      expect(code).toBe(0);
      expect(stdout).toContain('Examples:');
      expect(stdout).toMatch(/Exit codes:\n {2}0 {2}the native engine is ready/);
    }
  });

  it('refuses what it does not know with 1', async () => {
    expect((await run(['set-up'])).code).toBe(1);
    expect((await run(['doctor', '--engine', 'gpu'])).stderr).toContain('must be auto, native, wasm or cpu');
    expect((await run(['doctor', '--threads', '0'])).code).toBe(1);
  });
});
