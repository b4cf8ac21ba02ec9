/**
 * Where a simulation looks into production code, and where planted faults change what it does. When the simulator is
 * bundled, imports of a few modules are led to the files in `shims/`, which call these first; production knows nothing of it.
 */
import type { EpochHistory } from "../../internal/base/epoch-history.js";
import type { Seq } from "../../internal/base/position.js";
import type { PromiseRequest } from "../../internal/replication/core/ballot.js";
import type { Ballot } from "../../internal/replication/core/commit.js";
import type { Effect } from "../../internal/replication/core/effect.js";
import type { Event, LogView } from "../../internal/replication/core/event.js";
import type { CoreState } from "../../internal/replication/core/state.js";
import type { Objection } from "../../internal/replication/core/voting.js";
import type { Evaluation, EvaluationView, TxnEvaluation } from "../../internal/store/evaluate.js";
import type { KeyFilter, UpdateEvent } from "../../internal/store/update-events.js";
import type { Txn, WriteCommand } from "../../internal/store/write-command.js";

export type Step = (state: CoreState, event: Event) => Effect[];
type CommittedSeq = (ballot: Ballot) => Seq | undefined;
type ObjectionTo = (state: CoreState, request: PromiseRequest) => Objection | undefined;
type AgreementWith = (log: LogView, peer: { history: EpochHistory; lastSeq: Seq }) => Seq | undefined;
type Evaluate = (commands: readonly WriteCommand[], view: EvaluationView) => Evaluation;
type EvaluateTxn = (txn: Txn, view: EvaluationView) => TxnEvaluation;
type Clipped = (event: UpdateEvent, filter: KeyFilter | undefined) => UpdateEvent | undefined;

/** Each takes the place of the function of its name, which it is given. */
export interface Hooks {
  readonly step?: (real: Step, state: CoreState, event: Event) => Effect[];
  readonly committedSeq?: (real: CommittedSeq, ballot: Ballot) => Seq | undefined;
  readonly objectionTo?: (real: ObjectionTo, state: CoreState, request: PromiseRequest) => Objection | undefined;
  readonly agreementWith?: (
    real: AgreementWith,
    log: LogView,
    peer: { history: EpochHistory; lastSeq: Seq },
  ) => Seq | undefined;
  /** The state that is being made anew after a cut is shown meanwhile. */
  readonly showsWhatIsRebuilt?: boolean;
  /** The state stays what it was when the log is cut. */
  readonly keepsStateAtCut?: boolean;
  /** Snapshots and transfers bring no answers back. */
  readonly restoresNoAnswers?: boolean;
  /** A write that is sent again is not looked for among those in flight. */
  readonly findsNothingInFlight?: boolean;
  readonly evaluate?: (real: Evaluate, commands: readonly WriteCommand[], view: EvaluationView) => Evaluation;
  readonly evaluateTxn?: (real: EvaluateTxn, txn: Txn, view: EvaluationView) => TxnEvaluation;
  readonly clipped?: (real: Clipped, event: UpdateEvent, filter: KeyFilter | undefined) => UpdateEvent | undefined;
  /** The value before of an event is said to be the one that it put. */
  readonly showsTheValueAfter?: boolean;
}

/** Of the simulation that is running; there is one at a time. */
export const hooks: { now: Hooks } = { now: {} };
