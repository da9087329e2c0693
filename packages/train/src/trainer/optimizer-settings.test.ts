import { defineOptimizer } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import { optimizerSettings } from './optimizer-settings.ts';
import { parseTrainConfig } from './train-config.ts';

const model = {
  model_type: 'qwen3_moe',
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  moe_intermediate_size: 16,
  num_experts: 4,
  num_experts_per_tok: 2,
};
const parse = (optimizer: object, plugins?: string[]) =>
  parseTrainConfig({
    model,
    duration: { steps: 1 },
    optimizer,
    ...(plugins === undefined ? {} : { plugins }),
  });

describe('the optimizer section', () => {
  it('becomes the settings of a step, with defaults by kind', () => {
    const settings = (optimizer: object): unknown => optimizerSettings(parse(optimizer).optimizer, 0.5);
    const adamW = { betas: [0.9, 0.95], epsilon: 1e-8 };
    expect(settings({})).toEqual({ lr: 0.5, weightDecay: 0.1, ...adamW });
    expect(settings({ kind: 'sgd' })).toEqual({
      kind: 'sgd',
      lr: 0.5,
      weightDecay: 0.1,
      momentum: 0.9,
      decay: 'decoupled',
    });
    expect(settings({ kind: 'muon', beta2: 0.99, nesterov: false, adamWFor: ['@router', 'x'] })).toEqual({
      kind: 'muon',
      lr: 0.5,
      weightDecay: 0.1,
      nesterov: false,
      scale: 'match-rms',
      adamWFor: ['\\.(gate|router)\\.', 'x'],
      adamW: { betas: [0.9, 0.99], epsilon: 1e-8 },
    });
    const mine = defineOptimizer({
      name: 'mine',
      weightDecay: 0,
      check: () => [],
      rules: () => () => ({ name: 'mine', slots: [], update: () => [] }),
    });
    const custom = parse({ kind: 'mine', settings: { width: 3 } }, ['./mine.js']).optimizer;
    expect(optimizerSettings(custom, 0.5, mine)).toEqual({
      kind: mine,
      lr: 0.5,
      weightDecay: 0.1,
      settings: { width: 3 },
    });
  });

  it('with fields of another kind is refused, all at once', () => {
    expect(() =>
      parse({ momentum: 0.5, scale: 'original', settings: {}, layerDecay: 1.5, freeze: ['@expert'] }),
    ).toThrow(
      /optimizer\.layerDecay: must be at most 1, got 1\.5[^]*optimizer\.freeze\[0\]: must be a regular expression or one of @norms, @router, @embeddings, @experts, @attention, got "@expert"/,
    );
    expect(() => parse({ momentum: 0.5, scale: 'original', settings: {} })).toThrow(
      'got 3 faults:\n' +
        '  optimizer.momentum: must be left out with kind "adamw", got 0.5 (it is for sgd and muon)\n' +
        '  optimizer.scale: must be left out with kind "adamw", got "original" (it is for muon)\n' +
        '  optimizer.settings: must be left out with kind "adamw", got {} (it is for optimizers of plugins)',
    );
    expect(() => parse({ kind: 'sgd', nesterov: true, momentum: 0 })).toThrow(
      'optimizer.nesterov: must be left out without momentum, got true (or give optimizer.momentum)',
    );
  });

  it('of an unknown kind is refused with the nearest, unless plug-ins may bring it', () => {
    expect(() => parse({ kind: 'mion' })).toThrow(
      'optimizer.kind: must be one of adamw, sgd, muon, got "mion" (did you mean "muon"?)',
    );
    expect(parse({ kind: 'mion' }, ['./mion.js']).optimizer.kind).toBe('mion');
  });
});
