/**
 * @file What users get wrong, as they see it: message and exit status. The library's own tests have the whole list.
 */
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { exitCodes } from '../src/exit-codes.ts';
import { makeProject, parseEvents } from './built-cli.ts';
import { runHere } from './in-process.ts';
import type { Shown } from './in-process.ts';

const project = makeProject();
const train = (...parameters: string[]): Promise<Shown> =>
  runHere(['train', '--engine', 'native', '--no-sample', ...parameters], {
    cwd: project,
    env: process.env as { [name: string]: string },
  });

beforeAll(async () => {
  const { status } = await train(
    '--config',
    'run.json',
    '--steps',
    '3',
    '--out',
    'base',
    '--set',
    'checkpoint.everySteps=1',
  );
  expect(status).toBe(exitCodes.ok);
  mkdirSync(join(project, 'empty'));
  writeFileSync(join(project, 'empty', 'a.txt'), '');
});

describe('train, with what cannot work', () => {
  const cases: [string, string[], number, RegExp][] = [
    [
      'an empty text',
      ['--config', 'run.json', '--data', 'empty'],
      exitCodes.data,
      /a\.txt: must contain text, got an empty file \(remove it, or fill it\)/,
    ],
    [
      'a batch that no memory holds',
      ['--config', 'run.json', '--batch', '90000000'],
      exitCodes.data,
      /memory: a run must fit in \d+ MiB, got an estimate of \d+ MiB, \d+ of them for the process \(batch\.sequences \d+ of 32 tokens would fit; raise batch\.accumulation/,
    ],
    [
      'a model that is not there',
      ['--config', 'run.json', '--init-from', 'nowhere'],
      exitCodes.data,
      /nowhere: must be a folder with config\.json, or a finished run, got nothing/,
    ],
    [
      'an average of no meaning',
      ['--config', 'run.json', '--ema', '1'],
      exitCodes.usage,
      /--ema.*Must be a number from 0 to below 1\./is,
    ],
    [
      'early stopping without evaluations',
      ['--config', 'run.json', '--early-stop', '2', '--set', 'evaluation.everySteps=null'],
      exitCodes.usage,
      /earlyStop: must have evaluations to stop by \(evaluation\.everySteps\), got evaluation\.everySteps null/,
    ],
    [
      'flags beside --resume',
      ['--resume', 'base', '--init-from', 'base', '--on-nonfinite', 'skip'],
      exitCodes.usage,
      /--resume: must go on with the run as it was begun, got --init-from beside it/,
    ],
    [
      'numbers that never come back',
      ['--config', 'run.json', '--lr', '1e39', '--on-nonfinite', 'skip', '--set', 'numerics.maximumSkips=2'],
      exitCodes.numerics,
      /numerics: must recover within 2 skipped steps, got one more in a row; step 4, layer \d+: .*parameter model\.\S+ is not finite/,
    ],
  ];
  it.each(cases)('%s', async (_, parameters, status, message) => {
    const shown = await train(...parameters);
    expect(shown.error).toMatch(message);
    expect(shown.status).toBe(status);
  });

  it('a tokenizer that the model does not know', async () => {
    const other = await train(
      '--config',
      'run.json',
      '--steps',
      '1',
      '--out',
      'other',
      '--set',
      'tokenizer.vocabularySize=280',
    );
    expect(other.status).toBe(exitCodes.ok);
    const config = JSON.parse(readFileSync(join(project, 'run.json'), 'utf8')) as object;
    const model = join(project, 'base', 'model');
    const tokenizer = { path: join(project, 'other', 'model') };
    writeFileSync(
      join(project, 'mixed.json'),
      JSON.stringify({ ...config, model, initFrom: model, tokenizer }),
    );
    const { status, error } = await train('--config', 'mixed.json');
    expect(error).toMatch(
      /tokenizer: must be the one that the model in .* was trained with \(300 tokens, hash \w{8}\), got another \(280 tokens, hash \w{8}\)/,
    );
    expect(status).toBe(exitCodes.usage);
  });

  it('a checkpoint that was cut, and one whose run was changed', async () => {
    const began = await train(
      '--config',
      'run.json',
      '--steps',
      '3',
      '--out',
      'cut',
      '--set',
      'checkpoint.everySteps=1',
    );
    expect(began.status).toBe(exitCodes.ok);
    const runFile = join(project, 'cut', 'run.json');
    const run = readFileSync(runFile, 'utf8');
    writeFileSync(runFile, run.replace('"learningRate": 0.005', '"learningRate": 0.5'));
    const changed = await train('--resume', 'cut');
    expect(changed.error).toMatch(
      /resume: must be the run that .*state\.safetensors was saved by, got other settings: optimizer\.learningRate was 0\.005, is 0\.5 \(restore them, or start a new run\)/,
    );
    expect(changed.status).toBe(exitCodes.data);
    writeFileSync(runFile, run);
    truncateSync(join(project, 'cut', 'checkpoint', 'state.safetensors'), 4000);
    const cut = await train('--resume', 'cut');
    expect(cut.error).toMatch(/state\.safetensors: /);
    expect(cut.status).toBe(exitCodes.data);
  });
});

describe('train --init-from', () => {
  it('goes on from a run, averages, stops early, and says so', async () => {
    const shown = await train(
      '--config',
      'run.json',
      '--init-from',
      'base',
      '--replay',
      'texts',
      '--ema',
      '0.5',
      '--early-stop',
      '1',
      '--lr',
      '0.5',
      '--set',
      'evaluation.everySteps=1',
      '--out',
      'tuned',
      '--json',
    );
    expect(shown.status).toBe(exitCodes.ok);
    const events = parseEvents(shown.out);
    expect(events.find(({ event }) => event === 'evaluate')).toMatchObject({ weights: 'average' });
    expect(events.find(({ event }) => event === 'end')).toMatchObject({ reason: 'early-stop' });
    const saved = JSON.parse(readFileSync(join(project, 'tuned', 'run.json'), 'utf8')) as object;
    expect(saved).toMatchObject({ initFrom: join(project, 'base', 'model'), ema: { decay: 0.5 } });
  });
});
