import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { type SetupWorld, createSetupWorld } from './setup-world.ts';

let world: SetupWorld;
beforeAll(async () => {
  world = await createSetupWorld();
});
beforeEach(() => world.emptyCache());
afterAll(() => world.remove());

/** Every boundary of the set-up, in order. A kill just before each. */
const boundaries = [
  'download',
  'open libtensorflow_cc.so.2',
  'wrote libtensorflow_cc.so.2',
  'open tiny.h',
  'open stamp.json',
  'finished stamp.json',
  'compile binding.cc',
  'compile kernel.cc',
  'link',
  'smoke',
  'compile quiet_load.cc',
  'open stamp.json #2',
  'finished stamp.json #2',
];

describe('a set-up that is killed', () => {
  it.each(boundaries)('at "%s" leaves no half engine, and the next one finishes', async (boundary) => {
    await world.killAt(boundary);
    expect(await world.damage()).toEqual([]);
    expect(world.list('addons')).toEqual([]);
    world.ageLock();
    const next = await world.run();
    expect(next).toMatchObject({ ok: true, report: { changed: true, fused: true } });
    expect(await world.damage()).toEqual([]);
    expect(world.list('staging')).toEqual([]);
    expect(world.list('wheels')).toEqual([]);
  });

  it('is taken over within seconds, because its process is gone', async () => {
    await world.killAt('compile binding.cc');
    const next = await world.run({ patienceMs: 10_000 });
    expect(next.ok).toBe(true);
    // The library that was published before the kill is used again.
    expect(next.events).not.toContain('download');
    expect(next.events).not.toContain('open libtensorflow_cc.so.2');
  });

  it('does not download again what was downloaded whole', async () => {
    await world.killAt('open libtensorflow_cc.so.2');
    expect(world.list('wheels')).toEqual([world.tiny.recipe.wheel.file]);
    world.ageLock();
    const next = await world.run();
    expect(next.ok).toBe(true);
    expect(next.events).not.toContain('download');
  });
});

describe('two set-ups at once', () => {
  it('make one engine, once, and both report it', async () => {
    const outcomes = await Promise.all([world.run(), world.run()]);
    expect(outcomes.map(({ ok }) => ok)).toEqual([true, true]);
    const events = outcomes.flatMap((outcome) => outcome.events);
    expect(events.filter((name) => name === 'download')).toHaveLength(1);
    expect(events.filter((name) => name === 'link')).toHaveLength(1);
    expect(outcomes.map(({ report }) => report?.changed).sort()).toEqual([false, true]);
    expect(await world.damage()).toEqual([]);
  });

  it('say who holds the lock when patience ends', async () => {
    const held = world.killAt('smoke');
    await held;
    const waiting = await world.run({ patienceMs: 0 });
    expect(waiting).toMatchObject({ ok: false, stage: 'lock' });
    expect(waiting.message).toMatch(/another set-up must finish within 0 s, process \d+ still holds it/);
  });
});
