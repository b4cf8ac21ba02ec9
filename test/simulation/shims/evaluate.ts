/** Stands in the place of the store's evaluation in a simulation. */
import * as real from "../../../internal/store/evaluate.js";
import type { EvaluationView, Evaluation, TxnEvaluation } from "../../../internal/store/evaluate.js";
import type { Txn, WriteCommand } from "../../../internal/store/write-command.js";
import { hooks } from "../hooks.js";

export * from "../../../internal/store/evaluate.js";

export function evaluate(commands: readonly WriteCommand[], view: EvaluationView): Evaluation {
  return hooks.now.evaluate ? hooks.now.evaluate(real.evaluate, commands, view) : real.evaluate(commands, view);
}

export function evaluateTxn(txn: Txn, view: EvaluationView): TxnEvaluation {
  return hooks.now.evaluateTxn ? hooks.now.evaluateTxn(real.evaluateTxn, txn, view) : real.evaluateTxn(txn, view);
}
