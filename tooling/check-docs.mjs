/**
 * @file `node tooling/check-docs.mjs [--types-only] [part of a path]`, after a build: the examples of READMEs and doc
 * comments compile, and those that are marked run (see checks/doc-examples.mjs); whatever Markdown points to is there
 * (checks/doc-links.mjs). That the `moebius` commands in Markdown are accepted is a test of apps/trainer.
 */
import { resolve } from 'node:path';

import { findExamples } from './checks/doc-examples.mjs';
import { findLinkFaults } from './checks/doc-links.mjs';
import { runExamples, typeCheckExamples } from './checks/doc-program.mjs';
import { report } from './checks/workspaces.mjs';

const parameters = process.argv.slice(2);
const filter = parameters.find((parameter) => !parameter.startsWith('--')) ?? '';
const root = resolve('.');
const examples = findExamples(root).filter(({ file }) => file.includes(filter));
const pointers = findLinkFaults(root);
const faults = [...pointers.faults, ...typeCheckExamples(root, examples)];
const runnable = examples.filter((example) => example.runnable).length;
if (!parameters.includes('--types-only')) faults.push(...runExamples(root, examples, console.log));
report(
  'check-docs',
  `${pointers.links} links in ${pointers.files} files, ${examples.length} examples, ${runnable} runnable`,
  faults,
);
