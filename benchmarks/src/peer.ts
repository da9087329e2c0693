/**
 * @file A Python peer as a child process that speaks one JSON object a line (see peers/qwen3_moe_peer.py).
 *
 * The peer computes only between a request and its answer, so the two sides take turns on the same cores.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** One answer of the peer. */
export interface PeerAnswer {
  readonly seconds?: number;
  readonly forwardSeconds?: number;
  readonly tokensPerSecond?: number;
  readonly parameters?: number;
  readonly loss?: number;
  readonly error?: string;
  readonly [key: string]: unknown;
}

/** A running peer. */
export interface Peer {
  ask(request: Record<string, unknown>): Promise<PeerAnswer>;
  close(): Promise<void>;
}

/** Where the peers' virtual environment is: `benchmarks/peers/venv`, or `MOEBIUS_PEER_PYTHON`. */
export function peerPython(): string | undefined {
  const named = process.env['MOEBIUS_PEER_PYTHON'];
  const own = new URL('../peers/venv/bin/python', import.meta.url).pathname;
  if (named !== undefined && named !== '') return named;
  return existsSync(own) ? own : undefined;
}

/** Starts the Hugging Face peer. */
export function startPeer(python: string, script = 'qwen3_moe_peer.py'): Peer {
  const child = spawn(python, [new URL(`../peers/${script}`, import.meta.url).pathname], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const waiting: { resolve: (answer: PeerAnswer) => void; reject: (error: Error) => void }[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => {
    const next = waiting.shift();
    if (next === undefined) return;
    const answer = JSON.parse(line) as PeerAnswer;
    if (answer.error === undefined) next.resolve(answer);
    else next.reject(new Error(`peer: ${answer.error}`));
  });
  const ended = new Promise<void>((resolve) => {
    child.on('exit', (code) => {
      for (const next of waiting.splice(0)) next.reject(new Error(`peer: ended with code ${code}`));
      resolve();
    });
  });
  return {
    ask: (request) =>
      new Promise((resolve, reject) => {
        waiting.push({ resolve, reject });
        child.stdin.write(`${JSON.stringify(request)}\n`);
      }),
    close: async () => {
      child.stdin.end();
      await ended;
    },
  };
}
