import { EventEmitter } from 'node:events';

import { describe, expect, it } from 'vitest';

import { listenForInterrupt } from './interrupt.ts';

function setUp() {
  const exits: number[] = [];
  const told: string[] = [];
  const source = Object.assign(new EventEmitter(), { exit: (status: number) => void exits.push(status) });
  const interrupt = listenForInterrupt(source, { onFirst: () => told.push('stopping') });
  return { source, interrupt, exits, told };
}

describe('Ctrl-C', () => {
  it('asks politely once and ends the process the second time', () => {
    const { source, interrupt, exits, told } = setUp();
    expect(interrupt.signal.aborted).toBe(false);
    source.emit('SIGINT');
    expect([interrupt.signal.aborted, exits, told]).toEqual([true, [], ['stopping']]);
    source.emit('SIGTERM');
    expect([exits, told]).toEqual([[130], ['stopping']]);
  });
  it('is left alone after the run', () => {
    const { source, interrupt } = setUp();
    interrupt[Symbol.dispose]();
    expect(source.listenerCount('SIGINT') + source.listenerCount('SIGTERM')).toBe(0);
  });
});
