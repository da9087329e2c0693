/**
 * @file `node tooling/check-docs.mjs [--types-only] [part of a path]`, after a build: the examples of READMEs and doc
 * comments compile, and those that are marked run. See checks/doc-examples.mjs.
 */
import { resolve } from 'node:path';

import { findExamples } from './checks/doc-examples.mjs';
import { runExamples, typeCheckExamples } from './checks/doc-program.mjs';
import { report } from './checks/workspaces.mjs';

const parameters = process.argv.slice(2);
const filter = parameters.find((parameter) => !parameter.startsWith('--')) ?? '';
const root = resolve('.');
const examples = findExamples(root).filter(({ file }) => file.includes(filter));
const faults = typeCheckExamples(root, examples);
const runnable = examples.filter((example) => example.runnable).length;
if (!parameters.includes('--types-only')) faults.push(...runExamples(root, examples, console.log));
report('check-docs', `${examples.length} examples, ${runnable} runnable`, faults);
