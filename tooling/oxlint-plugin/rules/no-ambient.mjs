/**
 * @file `moebius/no-ambient`: a library gets its randomness, its time and its settings as arguments and returns what
 * it found. `Math.random`, `Date.now`, `new Date()`, `process.env` and `console` are the app's.
 */

/** @type {Record<string, string>} */
const ambientMembers = {
  'Math.random': 'take an rng',
  'Date.now': 'take a clock',
  'process.env': 'take an option',
  'process.argv': 'take an option',
  'process.exit': 'throw an error',
};

/** @type {import('../rule-types.d.ts').Rule} */
export const noAmbient = {
  meta: {
    type: 'problem',
    docs: { description: 'no hidden randomness, time, environment or console below apps/' },
  },
  create(context) {
    return {
      MemberExpression(node) {
        const object = node['object'];
        if (object.type !== 'Identifier') return;
        const property = node['computed'] ? node['property'].value : node['property'].name;
        const path = `${object.name}.${property}`;
        const remedy =
          object.name === 'console' ? 'return the data or call a callback' : ambientMembers[path];
        if (remedy === undefined) return;
        context.report({ node, message: `${path}: not below apps/ (${remedy})` });
      },
      NewExpression(node) {
        if (node['callee'].name !== 'Date' || node['arguments'].length > 0) return;
        context.report({ node, message: 'new Date(): not below apps/ (take a clock)' });
      },
    };
  },
};
