import { EventEmitter } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { describe, expect, it } from 'vitest';

import { listenForInterrupt, stopSignals } from './interrupt.ts';

function setUp() {
  const exits: number[] = [];
  const told: string[] = [];
  const source = Object.assign(new EventEmitter(), { exit: (status: number) => void exits.push(status) });
  const interrupt = listenForInterrupt(source, { onFirst: () => told.push('stopping'), names: stopSignals });
  return { source, interrupt, exits, told };
}

describe('signals', () => {
  it('ask politely once and end the process the second time, when both came during one step', () => {
    const { source, interrupt, exits, told } = setUp();
    expect(interrupt.signal.aborted).toBe(false);
    source.emit('SIGINT');
    expect([interrupt.signal.aborted, exits, told]).toEqual([true, [], ['stopping']]);
    source.emit('SIGTERM');
    expect([exits, told]).toEqual([[143], ['stopping']]);
  });
  it('are left to the system after the first one, so that a step in progress cannot hold up the second', async () => {
    const { source } = setUp();
    source.emit('SIGTERM');
    await nextTurn();
    expect(['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGPIPE'].map((name) => source.listenerCount(name))).toEqual([
      0, 0, 1, 1,
    ]);
  });
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
    ['SIGPIPE', 141],
  ])('tell by the exit status which one it was: %s', (name, status) => {
    const { source, interrupt } = setUp();
    source.emit(name);
    expect([interrupt.signal.aborted, interrupt.status]).toEqual([true, status]);
  });
  it('of a closed terminal or output never end the process', () => {
    const { source, interrupt, exits } = setUp();
    for (const name of ['SIGPIPE', 'SIGHUP', 'SIGPIPE']) source.emit(name);
    expect([exits, interrupt.status]).toEqual([[], 141]);
  });
  it('of a closed terminal or output are left to the system where no run is going on', () => {
    const source = Object.assign(new EventEmitter(), { exit: () => undefined });
    listenForInterrupt(source, { onFirst: () => undefined });
    expect(source.eventNames()).toEqual(['SIGINT', 'SIGTERM']);
  });
  it('are left alone after the run', () => {
    const { source, interrupt } = setUp();
    interrupt[Symbol.dispose]();
    expect(source.eventNames()).toEqual([]);
  });
});
