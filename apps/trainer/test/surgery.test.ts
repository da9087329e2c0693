/** @file Models rewritten by the command: upcycled, edited, merged; what they compute, and what is refused. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { makeProject, parseEvents } from './built-cli.ts';
import { runHere } from './in-process.ts';
import type { Shown } from './in-process.ts';

let cwd = '';
beforeAll(async () => {
  cwd = makeProject();
  const config = JSON.parse(readFileSync(join(cwd, 'run.json'), 'utf8')) as { model: object };
  const model = { ...config.model, num_experts: 0, intermediate_size: 48 };
  writeFileSync(join(cwd, 'dense.json'), JSON.stringify({ ...config, model }));
  for (const [file, name] of [
    ['dense.json', 'dense'],
    ['run.json', 'sparse'],
  ] as const) {
    const { status, error } = await run(
      'train',
      '--config',
      file,
      '--steps',
      '12',
      '--out',
      `runs/${name}`,
      '--no-sample',
      '--json',
    );
    expect([status, error]).toEqual([0, '']);
  }
}, 300_000);

function run(...parameters: string[]): Promise<Shown> {
  return runHere(parameters, { cwd });
}

function named({ out }: Shown, name: string): ReturnType<typeof parseEvents> {
  return parseEvents(out).filter(({ event }) => event === name);
}

async function bitsPerByte(model: string): Promise<number> {
  const [result] = named(await run('eval', model, '--data', 'texts', '--json'), 'evaluate');
  return result?.['bitsPerByte'] as number;
}

function configOf(folder: string): { readonly [key: string]: unknown } {
  return JSON.parse(readFileSync(join(cwd, folder, 'config.json'), 'utf8')) as { [key: string]: unknown };
}

describe('moebius upcycle', () => {
  it('T1: a trained dense model computes the same with experts, and training goes on from there', async () => {
    const before = await bitsPerByte('runs/dense');
    for (const [name, ...flags] of [
      ['copies', '--experts', '4', '--top-k', '2'],
      ['some', '--experts', '4', '--top-k', '1', '--layers', 'every:2'],
      [
        'granular',
        '--experts',
        '8',
        '--top-k',
        '4',
        '--mode',
        'granular',
        '--shards',
        '4',
        '--split',
        'cluster',
      ],
    ] as const) {
      const shown = await run('upcycle', 'runs/dense', '--out', name, ...flags, '--json');
      expect([shown.status, shown.error]).toEqual([0, '']);
      expect(named(shown, 'upcycle')).toMatchObject([{ isExact: true, notes: [], type: 'qwen3_moe' }]);
      expect(await bitsPerByte(name)).toBeCloseTo(before, 5);
    }
    const place = ['--out', 'runs/on', '--steps', '12', '--lr', '0.003', '--no-sample', '--json'];
    const trained = await run(
      'train',
      '--init-from',
      'copies',
      '--data',
      'texts',
      '--sequence',
      '32',
      '--batch',
      '4',
      ...place,
    );
    expect([trained.status, trained.error]).toEqual([0, '']);
    expect(await bitsPerByte('runs/on')).toBeLessThan(before - 0.1);
  }, 120_000);

  it('T2: cuts a layer up by which neurons are active together on a text, and computes the same with all experts on', async () => {
    const flags = [
      '--experts',
      '4',
      '--top-k',
      '4',
      '--mode',
      'split',
      '--split',
      'co-activation',
      '--router',
      'zero',
    ];
    const none = await run('upcycle', 'runs/dense', '--out', 'parts', ...flags);
    expect([none.status, none.error]).toEqual([
      2,
      expect.stringContaining(
        '--split co-activation: must have a --text on which neurons are watched, got none',
      ),
    ]);
    const shown = await run('upcycle', 'runs/dense', '--out', 'parts', ...flags, '--text', 'texts', '--json');
    expect([shown.status, shown.error]).toEqual([0, '']);
    expect(named(shown, 'upcycle')).toMatchObject([{ isExact: true, tensors: { cut: 24 } }]);
    expect(await bitsPerByte('parts')).toBeCloseTo(await bitsPerByte('runs/dense'), 5);
  }, 60_000);

  it('tells people what was done, and programs where each tensor comes from', async () => {
    const { out, error, status } = await run(
      'upcycle',
      'runs/dense',
      '--out',
      'told',
      '--experts',
      '4',
      '--top-k',
      '2',
      '--noise',
      '0.1',
    );
    expect([status, error]).toEqual([0, '']);
    expect(out).toMatch(/^layers +2 of 2 changed$/m);
    expect(out).toMatch(/^experts +4 in a sparse layer, 2 per token$/m);
    expect(out).toMatch(/^tensors +18 kept, 2 fresh, 24 copied, 0 dropped$/m);
    expect(out).toMatch(/^computes +not the same: noise of 0\.1 on 3 of 4 copies$/m);
    expect(out).toMatch(/^written +told: [\d.]+ .* bytes, float32, in /m);
    expect(existsSync(join(cwd, 'told', 'tokenizer.json'))).toBe(true);
    const shown = await run(
      'upcycle',
      'runs/dense',
      '--out',
      'told',
      '--overwrite',
      '--experts',
      '2',
      '--top-k',
      '1',
      '--dtype',
      'bfloat16',
      '--json',
    );
    expect(named(shown, 'tensor')).toContainEqual({
      event: 'tensor',
      id: 'model.layers.1.mlp.experts.0.up_proj.weight',
      fate: 'copied',
      from: ['model.layers.1.mlp.up_proj.weight'],
    });
    expect(configOf('told')).toMatchObject({ num_experts: 2, torch_dtype: 'bfloat16' });
  });

  it.each([
    [
      ['runs/sparse', '--out', 'x', '--experts', '4', '--top-k', '2'],
      2,
      'model: must be dense to be upcycled, got 4 experts in 2 of 2 layers',
    ],
    [
      ['runs/dense', '--out', 'x', '--experts', '4', '--top-k', '5'],
      2,
      'topK: must be at most experts 4, got 5 (lower topK or add experts)',
    ],
    [
      ['runs/dense', '--out', 'x', '--experts', '10', '--top-k', '5', '--mode', 'granular', '--shards', '5'],
      2,
      'shards: must divide intermediate_size 48, got 5 (divisors: 1, 2, 3, 4, 6, 8, 12, 16, 24, 48)',
    ],
    [
      ['runs/dense', '--out', 'x', '--experts', '6', '--top-k', '2', '--mode', 'granular', '--shards', '4'],
      2,
      'shards: must divide experts 6, got 4',
    ],
    [
      ['runs/dense', '--out', 'x', '--experts', '4', '--top-k', '2', '--mode', 'granular'],
      2,
      '--shards: must be given with --mode granular, got none',
    ],
    [
      ['runs/dense', '--out', 'x', '--experts', '4', '--top-k', '2', '--shards', '2'],
      2,
      '--shards: must stand with --mode granular, got --mode copy (leave it out)',
    ],
    [
      ['runs/dense', '--out', 'texts', '--experts', '4', '--top-k', '2'],
      2,
      '--out texts: must be a new folder, got one with 8 files (choose another, or give --overwrite)',
    ],
    [
      ['runs/dense', '--out', 'runs/dense/model', '--experts', '4', '--top-k', '2'],
      2,
      'must be a new folder, got the model itself',
    ],
    [
      ['runs/dense', '--out', 'x', '--experts', '4', '--top-k', '2', '--layers', '0,7'],
      2,
      'layers: must name layers of the model (0, 1), got 7',
    ],
    [
      ['runs/dense', '--out', 'x', '--experts', '4', '--top-k', '2', '--layers', '5-2'],
      2,
      'Must be layers from 0, as in 0,2-5, or every:2 for each second one.',
    ],
    [['runs/dense', '--out', 'x', '--experts', '4'], 2, "required option '--top-k <count>' not specified"],
    [
      ['runs/nothing', '--out', 'x', '--experts', '4', '--top-k', '2'],
      3,
      'runs/nothing: must be a folder with config.json, or a finished run, got nothing',
    ],
  ])('refuses %j', async (parameters, wanted, message) => {
    const { status, error } = await run('upcycle', ...parameters);
    expect([status, error]).toEqual([wanted, expect.stringContaining(message)]);
    expect(existsSync(join(cwd, 'x'))).toBe(false);
  });
});

describe('moebius experts', () => {
  it('T5: removes the least loaded and adds others; the model still works', async () => {
    const shown = await run(
      'experts',
      'edit',
      'runs/sparse/model',
      '--out',
      'edited',
      '--remove',
      'idle:1',
      '--text',
      'texts',
      '--add',
      'copy:0,fresh',
      '--json',
    );
    expect([shown.status, shown.error]).toEqual([0, '']);
    expect(named(shown, 'edit')).toMatchObject([{ experts: 5, topK: 2, layers: [0, 1], dropped: 6 }]);
    expect(await bitsPerByte('edited')).toBeLessThan(9);
  });

  it('T5: edits a run with its checkpoint, and training goes on with the moments of experts that stay', async () => {
    const config = [
      '--config',
      'run.json',
      '--steps',
      '6',
      '--set',
      'checkpoint.everySteps=4',
      '--no-sample',
      '--json',
    ];
    expect((await run('train', ...config, '--out', 'runs/saved')).status).toBe(0);
    const shown = await run(
      'experts',
      'edit',
      'runs/saved',
      '--out',
      'runs/changed',
      '--remove',
      '2',
      '--add',
      'copy:1,fresh',
      '--steps',
      '8',
      '--json',
    );
    expect([shown.status, shown.error]).toEqual([0, '']);
    expect(named(shown, 'edit')).toMatchObject([{ experts: 5, folder: join(cwd, 'runs/changed/model') }]);
    const [{ stateful } = { stateful: null }] = named(shown, 'run') as unknown as {
      stateful: { before: number; after: number };
    }[];
    expect(stateful!.after).toBe(stateful!.before - 2 * 3);
    const resumed = await run('train', '--resume', 'runs/changed', '--no-sample', '--json');
    expect([resumed.status, resumed.error]).toEqual([0, '']);
    expect(named(resumed, 'step').map(({ step }) => step)).toEqual([7, 8]);
    expect(configOf('runs/changed/model')).toMatchObject({ num_experts: 5, num_experts_per_tok: 2 });
    const { out } = await run('experts', 'edit', 'runs/saved', '--out', 'runs/less', '--remove', '0');
    expect(out).toMatch(
      /^checkpoint {2}optimizer state of \d+ parameters, \d+ before; go on: moebius train --resume runs\/less$/m,
    );
  }, 60_000);

  it('T3: merges experts into a dense model that trains on', async () => {
    for (const flags of [
      ['--method', 'average'],
      ['--method', 'top', '--count', '2', '--text', 'texts'],
      ['--method', 'join'],
    ]) {
      const shown = await run(
        'experts',
        'merge',
        'runs/sparse',
        '--out',
        'merged',
        '--overwrite',
        ...flags,
        '--json',
      );
      expect([shown.status, shown.error]).toEqual([0, '']);
      expect(named(shown, 'merge')).toMatchObject([{ type: 'qwen3', experts: 0, isExact: false }]);
    }
    expect(configOf('merged')).toMatchObject({
      model_type: 'qwen3',
      intermediate_size: 128,
      architectures: ['Qwen3ForCausalLM'],
    });
    expect(await bitsPerByte('merged')).toBeLessThan(9);
    const round = await run(
      'upcycle',
      'merged',
      '--out',
      'again',
      '--experts',
      '4',
      '--top-k',
      '1',
      '--json',
    );
    expect(round.status).toBe(0);
    expect(await bitsPerByte('again')).toBeCloseTo(await bitsPerByte('merged'), 5);
  }, 60_000);

  it.each([
    [
      ['edit', 'runs/sparse', '--out', 'x'],
      'experts edit: must be given --remove or --add, got neither (say which experts go or come)',
    ],
    [['edit', 'runs/sparse', '--out', 'x', '--remove', '9'], 'remove: must name experts from 0 to 3, got 9'],
    [
      ['edit', 'runs/sparse', '--out', 'x', '--remove', '0,1,2'],
      'num_experts_per_tok: must be at most num_experts 1, got 2',
    ],
    [
      ['edit', 'runs/sparse', '--out', 'x', '--remove', 'idle:1'],
      '--remove idle: must have a --text on which the load is measured, got none',
    ],
    [
      ['edit', 'runs/sparse', '--out', 'x', '--add', 'fresh', '--steps', '9'],
      '--steps: must stand with a run that has a checkpoint, got another folder (leave it out)',
    ],
    [
      ['edit', 'runs/sparse', '--out', 'x', '--add', 'stale'],
      'Must be copy:<expert> or fresh, as in copy:0,fresh.',
    ],
    [
      ['edit', 'runs/dense', '--out', 'x', '--add', 'fresh'],
      'model: must have experts to add to or remove from, got a dense model (upcycle it first)',
    ],
    [
      ['merge', 'runs/sparse', '--out', 'x', '--method', 'best'],
      '--method best: must have a --text on which the load of experts is measured, got none',
    ],
    [
      ['merge', 'runs/dense', '--out', 'x'],
      'model: must have experts to be merged, got a dense model (nothing is to do)',
    ],
  ])('refuses %j', async (parameters, message) => {
    const { status, error } = await run('experts', ...parameters);
    expect([status, error]).toEqual([2, expect.stringContaining(message)]);
  });
});
