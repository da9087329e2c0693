/** @file `moebius-tensor doctor`: what was found, tried and chosen, and how to fix what is missing. */
import { type Stats, accessSync, constants, mkdirSync, statSync } from 'node:fs';
import { performance } from 'node:perf_hooks';

import { isMoebiusError } from '@moebius/core';
import * as tf from '@tensorflow/tfjs';

import { type Engine, type EngineOptions, createEngine } from '../engine/create-engine.ts';
import { measureMatmulRate } from '../engine/matmul-rate.ts';
import { findCompiler } from '../setup/compiler.ts';
import { messageOf } from '../setup/errors.ts';
import { defaultCacheFolder } from '../setup/layout.ts';
import { describeMachine } from '../setup/machine.ts';
import { createSetupPorts } from '../setup/ports.ts';
import { type EnginePlan, planEngine } from '../setup/setup-engine.ts';
import { findDamage, findDeepDamage, readStamp } from '../setup/stamp.ts';
import { type Console } from './console.ts';

/** Options of the command. */
export interface DoctorOptions {
  readonly cache?: string;
  readonly engine?: EngineOptions['engine'];
  readonly threads?: number;
  readonly deep?: boolean;
  readonly json?: boolean;
}

/** One finding. */
interface Finding {
  readonly subject: string;
  readonly state: 'ok' | 'missing' | 'note';
  readonly found: string;
}

/** How the engine multiplies. */
interface Multiplication {
  readonly correct: boolean;
  /** Fastest product that was seen: what `moebius train` compares a model with. */
  readonly gigaflops: number;
  /** Rows and columns of that product. */
  readonly side: number;
}

/** The tiny computation: a product whose every element is known. */
const matmulSize = 256;

/**
 * Runs the command.
 *
 * @returns 0 native, 2 another engine, 1 none
 */
export async function runDoctor(options: DoctorOptions, terminal: Console): Promise<number> {
  const findings = await examine(options, terminal);
  let engine: Engine | undefined;
  let matmul: Multiplication | undefined;
  let failure = '';
  try {
    engine = await createEngine({
      engine: options.engine,
      threads: options.threads,
      cacheFolder: options.cache,
      resolveFrom: [terminal.workingFolder],
    });
    matmul = examineMatmul();
  } catch (error) {
    failure = messageOf(error);
  }
  const works = matmul?.correct === true;
  if (options.json === true) {
    terminal.out(
      `${JSON.stringify({ findings, engine: engine ?? null, matmul: matmul ?? null, failure }, undefined, 2)}\n`,
    );
  } else {
    for (const { subject, state, found } of findings)
      terminal.out(`${state.padEnd(8)}${subject.padEnd(20)}${found}\n`);
    terminal.out(engine === undefined ? `no engine: ${failure}\n` : `chosen  ${engine.description}\n`);
    if (matmul !== undefined) {
      const verdict = works ? 'correct' : 'WRONG';
      terminal.out(
        `matmul  ${matmulSize}×${matmulSize}: ${verdict}; fastest ${matmul.side}×${matmul.side}: ${matmul.gigaflops.toFixed(1)} GFLOP/s\n`,
      );
    }
  }
  if (!works) return 1;
  return engine?.name === 'native' ? 0 : 2;
}

async function examine(options: DoctorOptions, terminal: Console): Promise<Finding[]> {
  const machine = describeMachine();
  const cacheFolder = options.cache ?? defaultCacheFolder();
  const findings: Finding[] = [
    { subject: 'Node', state: 'ok', found: process.version },
    {
      subject: 'machine',
      state: machine.musl ? 'missing' : 'ok',
      found: `${machine.platform}, features ${machine.processor}`,
    },
    examineCache(cacheFolder),
  ];
  try {
    const plan = planEngine({ cacheFolder, resolveFrom: [terminal.workingFolder] });
    findings.push({ subject: 'tfjs-node-gpu', state: 'ok', found: plan.sources.tfjsNode });
    findings.push(...(await examineEngine(plan, options.deep === true)));
  } catch (error) {
    if (!isMoebiusError(error)) throw error;
    findings.push({ subject: 'native engine', state: 'missing', found: error.message });
  }
  return [...findings, ...(await examineTools())];
}

async function examineEngine(plan: EnginePlan, deep: boolean): Promise<Finding[]> {
  const look = async (subject: string, folder: string, remedy: string): Promise<Finding> => {
    const damage = deep ? await findDeepDamage(folder) : findDamage(folder);
    if (damage === undefined) return { subject, state: 'ok', found: folder };
    return { subject, state: 'missing', found: `${damage} in ${folder} (${remedy})` };
  };
  const findings = [
    await look('TensorFlow library', plan.layout.library, 'npx @moebius/tensor setup'),
    await look('addon', plan.layout.addon, 'npx @moebius/tensor setup'),
  ];
  const made = readStamp(plan.layout.addon)?.made;
  if (made === undefined) return findings;
  const fused = made['fused'] === true;
  const found = fused
    ? `built by ${String(made['compiler'])}`
    : `${String(made['fusedProblem'])} (the engine works without them; setup --force tries again)`;
  return [...findings, { subject: 'fused kernels', state: fused ? 'ok' : 'note', found }];
}

function examineCache(folder: string): Finding {
  const exists: Stats | undefined = statSync(folder, { throwIfNoEntry: false });
  try {
    if (exists === undefined) mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
    return { subject: 'cache', state: 'ok', found: folder };
  } catch (error) {
    return {
      subject: 'cache',
      state: 'missing',
      found: `${messageOf(error)} (make it writable, or --cache another)`,
    };
  }
}

async function examineTools(): Promise<Finding[]> {
  const ports = createSetupPorts();
  const findings: Finding[] = [];
  try {
    findings.push({ subject: 'C++ compiler', state: 'ok', found: (await findCompiler(ports)).version });
  } catch (error) {
    findings.push({ subject: 'C++ compiler', state: 'note', found: messageOf(error) });
  }
  const pip = await ports.run('python3', ['-m', 'pip', '--version'], { timeoutMs: 30_000 });
  const found =
    pip.status === 0
      ? pip.output.trim().split(' from ')[0]
      : 'none (only needed to download TensorFlow once; or setup --wheel)';
  return [...findings, { subject: 'pip', state: pip.status === 0 ? 'ok' : 'note', found: found ?? '' }];
}

function examineMatmul(): Multiplication {
  const rate = measureMatmulRate({ nowMs: () => performance.now() });
  return {
    correct: multiplies(),
    gigaflops: (rate?.flopsPerSecond ?? 0) / 1e9,
    side: rate?.side ?? 0,
  };
}

function multiplies(): boolean {
  return tf.tidy(() => {
    const left = tf.fill([matmulSize, matmulSize], 0.5);
    const right = tf.fill([matmulSize, matmulSize], 2);
    return tf
      .matMul(left, right)
      .dataSync()
      .every((value) => value === matmulSize);
  });
}
