/**
 * @file `moebius/shape-doc`: an exported function that takes a tensor says its shapes. The doc comment before the
 * export must hold at least one bracketed shape, as in `hidden_TD - float32 [T, D]` or `[]` for a scalar.
 */

const tensorType = /\b(?:Tensor(?:[1-6]D)?|Scalar|Variable)\b/;
/** Dimensions are short: letters of the legend, numbers, products; a markdown link `[text](url)` is not a shape. */
const bracketedShape = /(?<!\])\[\s*(?:[\w·*+\-/…×'| ]{1,24}(?:,\s*[\w·*+\-/…×'| ]{1,24})*)?\](?!\()/u;

/** @type {import('../rule-types.d.ts').Rule} */
export const shapeDoc = {
  meta: { type: 'problem', docs: { description: 'exported functions over tensors document a [shape]' } },
  create(context) {
    return {
      ExportNamedDeclaration(node) {
        const declared = node.declaration;
        if (declared?.type !== 'FunctionDeclaration' && declared?.type !== 'TSDeclareFunction') return;
        const takesTensor = declared.params.some(
          (/** @type {import('../rule-types.d.ts').Node} */ parameter) =>
            tensorType.test(typeTextOf(context, parameter)),
        );
        if (!takesTensor) return;
        const doc = context.sourceCode
          .getCommentsBefore(node)
          .findLast((comment) => comment.type === 'Block' && comment.value.startsWith('*'));
        if (doc !== undefined && bracketedShape.test(doc.value)) return;
        const name = declared.id?.name ?? 'function';
        context.report({
          node: declared,
          message: `${name}: an exported function that takes a tensor documents its shape, got ${
            doc === undefined ? 'no doc comment' : 'a doc comment without a bracketed shape'
          } (write e.g. "hidden_TD - float32 [T, D]")`,
        });
      },
    };
  },
};

/**
 * @param {import('../rule-types.d.ts').RuleContext} context
 * @param {import('../rule-types.d.ts').Node} parameter
 * @returns {string}
 */
function typeTextOf(context, parameter) {
  const target = parameter.type === 'AssignmentPattern' ? parameter['left'] : parameter;
  const annotation = target['typeAnnotation'] ?? target['argument']?.typeAnnotation;
  return annotation ? context.sourceCode.getText(annotation) : '';
}
