#!/usr/bin/env node
/** @file The executable `moebius`: the only file that touches the process. */
import { readFileSync } from 'node:fs';

import { runProgram } from './program.ts';

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

// `moebius … | head` closes our stdout: that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

process.exitCode = await runProgram(
  process.argv.slice(2),
  {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    signals: process,
    workingFolder: process.cwd(),
    nowMs: () => performance.now(),
    wallTimeMs: () => Date.now(),
    residentBytes: () => process.memoryUsage.rss(),
  },
  manifest.version,
);
