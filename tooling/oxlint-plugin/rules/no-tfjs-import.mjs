/**
 * @file `moebius/no-tfjs-import`: only `@moebius/tensor` touches TensorFlow.js. Everybody else, types included, goes
 * through it, so that the engine can be changed in one place.
 */

/** @type {import('../rule-types.d.ts').Rule} */
export const noTfjsImport = {
  meta: { type: 'problem', docs: { description: 'only @moebius/tensor imports @tensorflow/*' } },
  create(context) {
    /** @param {import('../rule-types.d.ts').Node} node */
    function check(node) {
      const name = node['source']?.value;
      if (typeof name !== 'string' || !name.startsWith('@tensorflow/')) return;
      context.report({
        node,
        message: `${name}: only @moebius/tensor imports TensorFlow.js (import the same thing from @moebius/tensor)`,
      });
    }
    return {
      ImportDeclaration: check,
      ImportExpression: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
      TSImportType: check,
    };
  },
};
