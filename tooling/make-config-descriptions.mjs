/**
 * @file `node tooling/make-config-descriptions.mjs [--check]`: writes what each field of a run configuration means,
 * from the comments of its types; with --check only says whether the file is current.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import {
  descriptionsFile,
  formatDescriptions,
  readConfigDescriptions,
} from './checks/config-descriptions.mjs';
import { report } from './checks/workspaces.mjs';

const descriptions = readConfigDescriptions('.');
const text = formatDescriptions(descriptions);
const file = join('.', descriptionsFile);
if (process.argv.includes('--check')) {
  const isCurrent = readFileSync(file, 'utf8') === text;
  const fault = `${descriptionsFile}: must be made from the comments of the types (run: node tooling/make-config-descriptions.mjs)`;
  report('check-config-descriptions', `${descriptions.size} fields`, isCurrent ? [] : [fault]);
} else {
  writeFileSync(file, text);
}
