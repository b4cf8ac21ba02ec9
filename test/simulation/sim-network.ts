/**
 * The network between simulated nodes. Messages take time, and get nowhere where a direction is cut; connections break,
 * with or without both ends hearing of it; calls are lost on either way, come twice, and come late. Within one
 * connection messages stay in order, as TCP keeps them; between connections, connection attempts and calls there is none.
 */
import { AssertionError, must } from "../../internal/base/assert.js";
import type { Position } from "../../internal/base/position.js";
import type { MasterMessage, ReplicaMessage } from "../../internal/replication/core/message.js";
import type {
  Asker,
  PeerConnection,
  PeerListener,
  PeerNetwork,
  PromiseReply,
  PromiseRequest,
  PushSession,
  RegisterReply,
  RegisterRequest,
  SurveyReply,
} from "../../internal/replication/peer.js";
import { ReplicationError } from "../../internal/replication/replication-error.js";
import type { Random } from "./random.js";
import type { Process, World } from "./world.js";

/** What a node does for others; only while its server listens. */
export interface Server {
  acceptPush(send: (message: ReplicaMessage) => void, close: (reason: string) => void): PushSession;
  register(request: RegisterRequest): Promise<RegisterReply>;
  survey(asker: Asker): SurveyReply;
  requestPromise(request: PromiseRequest): Promise<PromiseReply>;
  readIndex(asker: Asker, signal: AbortSignal): Promise<Position>;
}

/** A place that can be connected to. */
export interface Endpoint {
  readonly address: string;
  /** Whether the machine is switched on; one that is off answers nothing, not even "refused". */
  readonly powered: boolean;
  readonly process: Process | undefined;
  readonly server: Server | undefined;
}

/** One direction between two machines. */
interface Link {
  cut: boolean;
  /** Typical time on the way. */
  delayMs: number;
  /** Of calls and connection attempts: the part that gets lost, and the part that comes twice. */
  loss: number;
  duplication: number;
  /** What waits for the end of a cut. */
  waiting: (() => void)[];
}

export interface NetworkListener {
  /** A push message arrives; called before the receiver hears it. */
  delivered?(from: string, to: string, message: MasterMessage | ReplicaMessage): void;
  /** A node tells a candidate how it is. */
  surveyed?(candidate: string, by: string, reply: SurveyReply): void;
  /** A node gives a candidate its promise, or refuses it. */
  promised?(by: string, request: PromiseRequest, reply: PromiseReply): void;
}

export interface NetworkCounts {
  messages: number;
  connections: number;
  brokenConnections: number;
  halfOpenConnections: number;
  refusedConnections: number;
  ghostConnections: number;
  lostCalls: number;
  lostAnswers: number;
  duplicatedCalls: number;
  delayedCalls: number;
}

/** Reason of a connection that broke. */
const RESET = "connection reset";

export class SimNetwork {
  readonly #world: World;
  readonly #random: Random;
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #links = new Map<string, Link>();
  readonly #wires = new Set<Wire>();
  /** Calls that a process is working on: what to do should it end before. */
  readonly #handling = new Map<Process, Set<() => void>>();
  readonly #listener: NetworkListener;
  readonly defaults: { delayMs: number; loss: number; duplication: number };
  readonly counts: NetworkCounts = {
    messages: 0,
    connections: 0,
    brokenConnections: 0,
    halfOpenConnections: 0,
    refusedConnections: 0,
    ghostConnections: 0,
    lostCalls: 0,
    lostAnswers: 0,
    duplicatedCalls: 0,
    delayedCalls: 0,
  };

  constructor(
    world: World,
    random: Random,
    defaults: { delayMs: number; loss: number; duplication: number },
    listener: NetworkListener,
  ) {
    this.#world = world;
    this.#random = random;
    this.defaults = defaults;
    this.#listener = listener;
  }

  add(endpoint: Endpoint): void {
    this.#endpoints.set(endpoint.address, endpoint);
  }

  get addresses(): readonly string[] {
    return [...this.#endpoints.keys()];
  }

  endpoint(address: string): Endpoint | undefined {
    return this.#endpoints.get(address);
  }

  /** The network as a process sees it. */
  as(address: string, process: Process): PeerNetwork {
    return new ProcessNetwork(this, address, process);
  }

  // ---- what goes wrong -------------------------------------------------------------------------------------------------

  cut(from: string, to: string): void {
    this.link(from, to).cut = true;
  }

  heal(from: string, to: string): void {
    const link = this.link(from, to);
    link.cut = false;
    for (const go of link.waiting.splice(0))
      this.#world.after(this.#random.delay(link.delayMs), undefined, "healed", go);
  }

  isCut(from: string, to: string): boolean {
    return this.link(from, to).cut;
  }

  healAll(): void {
    for (const [name, link] of this.#links) {
      const [from, to] = name.split(" ") as [string, string];
      Object.assign(link, this.defaults);
      if (link.cut || link.waiting.length > 0) this.heal(from, to);
    }
  }

  disturb(from: string, to: string, quality: Partial<Pick<Link, "delayMs" | "loss" | "duplication">>): void {
    Object.assign(this.link(from, to), quality);
  }

  /** Breaks an open connection between two nodes, if there is one. */
  breakOne(kind: "both" | "one"): boolean {
    const wires = [...this.#wires];
    if (wires.length === 0) return false;
    const wire = this.#random.pick(wires);
    if (kind === "both") {
      this.counts.brokenConnections++;
      wire.sever("both");
    } else {
      this.counts.halfOpenConnections++;
      wire.sever(this.#random.chance(0.5) ? "master" : "replica");
    }
    return true;
  }

  /** A process has ended; `silently`: with its machine, so that nobody is told. */
  ended(process: Process, silently: boolean): void {
    for (const wire of this.#wires) if (wire.involves(process)) wire.processEnded(process, silently);
    const handling = this.#handling.get(process);
    this.#handling.delete(process);
    if (!silently) for (const tell of handling ?? []) tell();
  }

  /** `tell` is called when the process ends before `forget` was. */
  whenEnded(process: Process, tell: () => void): { forget(): void } {
    const handling = this.#handling.get(process) ?? new Set();
    this.#handling.set(process, handling);
    handling.add(tell);
    return { forget: () => void handling.delete(tell) };
  }

  // ---- inside ----------------------------------------------------------------------------------------------------------

  get world(): World {
    return this.#world;
  }

  get random(): Random {
    return this.#random;
  }

  get listener(): NetworkListener {
    return this.#listener;
  }

  link(from: string, to: string): Link {
    const name = `${from} ${to}`;
    let link = this.#links.get(name);
    if (!link) {
      link = { cut: false, ...this.defaults, waiting: [] };
      this.#links.set(name, link);
    }
    return link;
  }

  delay(from: string, to: string): number {
    return this.#random.delay(this.link(from, to).delayMs);
  }

  wireEnded(wire: Wire): void {
    this.#wires.delete(wire);
  }

  connect(from: string, process: Process, to: string, listener: PeerListener): PeerConnection {
    const wire = new Wire(this, { from, to, caller: process, listener });
    this.#wires.add(wire);
    this.counts.connections++;
    wire.attempt();
    return wire;
  }

  /** Bytes of records and chunks that are on their way in the fullest connection. */
  get mostBytesUnderWay(): number {
    let most = 0;
    for (const wire of this.#wires) most = Math.max(most, wire.bytesUnderWay);
    return most;
  }
}

type Side = "master" | "replica";

/** One connection: two streams in order. */
class Wire implements PeerConnection {
  readonly #network: SimNetwork;
  readonly #from: string;
  readonly #to: string;
  readonly #caller: Process;
  readonly #listener: PeerListener;
  /** Of the acceptor, once it is open. */
  #acceptor: Process | undefined;
  #session: PushSession | undefined;
  /** Whether the side has heard of the end, or has made it. */
  readonly #ended = { master: false, replica: false };
  /** What was sent before the connection opened. */
  readonly #early: MasterMessage[] = [];
  #first: MasterMessage | undefined;
  #severed = false;
  /** When the last thing that was sent arrives, at each side. */
  readonly #lastMs = { master: 0, replica: 0 };
  /** What is stuck before a cut, for each receiving side. */
  readonly #stuck: Record<Side, (() => void)[] | undefined> = { master: undefined, replica: undefined };
  bytesUnderWay = 0;

  constructor(network: SimNetwork, options: { from: string; to: string; caller: Process; listener: PeerListener }) {
    this.#network = network;
    this.#from = options.from;
    this.#to = options.to;
    this.#caller = options.caller;
    this.#listener = options.listener;
  }

  get bufferedBytes(): number {
    return 0;
  }

  involves(process: Process): boolean {
    return this.#caller === process || this.#acceptor === process;
  }

  // ---- the master's end ------------------------------------------------------------------------------------------------

  attempt(): void {
    const { random, counts } = this.#network;
    const link = this.#network.link(this.#from, this.#to);
    const delayMs = this.#network.delay(this.#from, this.#to);
    if (random.chance(link.duplication)) {
      counts.ghostConnections++;
      this.#network.world.after(delayMs + random.delay(300), undefined, "ghost", () => this.#haunt());
    }
    if (random.chance(link.loss)) {
      // The system tries again, after a second and more.
      this.#network.world.after(1000 + delayMs, undefined, "syn again", () => this.#arrive());
      return;
    }
    this.#network.world.after(delayMs, undefined, "syn", () => this.#arrive());
  }

  send(message: MasterMessage): void {
    if (this.#ended.master || !this.#caller.alive) return;
    this.#first ??= message;
    if (this.#session) this.#toReplica(message);
    else this.#early.push(message);
  }

  close(): void {
    if (this.#ended.master) return;
    this.#ended.master = true;
    if (this.#caller.alive) {
      this.#network.world.after(0, this.#caller, "closed", () => this.#listener.closed("closed by this node"));
    }
    this.#passOn("replica", () => this.#tellReplica());
    this.#forgetWhenEnded();
  }

  // ---- the connection --------------------------------------------------------------------------------------------------

  #arrive(): void {
    const link = this.#network.link(this.#from, this.#to);
    if (link.cut) {
      link.waiting.push(() => this.#arrive());
      return;
    }
    const { world, counts } = this.#network;
    const endpoint = this.#network.endpoint(this.#to);
    if (!endpoint?.powered) return;
    const { process } = endpoint;
    if (!process?.alive || !endpoint.server) {
      counts.refusedConnections++;
      this.#passOn("master", () => this.#tellMaster("connection refused"));
      return;
    }
    // What the acceptor does is its own event, so that whatever goes wrong in it is its own too.
    world.after(0, process, "accept", () => {
      const { server } = must(this.#network.endpoint(this.#to), "an endpoint stays");
      if (!server) return this.#passOn("master", () => this.#tellMaster("connection refused"));
      this.#acceptor = process;
      this.#session = server.acceptPush(
        (message) => this.#toMaster(message),
        (reason) => this.#closedByReplica(reason),
      );
      this.#passOn("master", () => {
        if (!this.#ended.master && this.#caller.alive) this.#listener.opened();
      });
      for (const message of this.#early.splice(0)) this.#toReplica(message);
      if (this.#ended.master) this.#passOn("replica", () => this.#tellReplica());
    });
  }

  #toReplica(message: MasterMessage): void {
    const bytes = message.kind === "append" ? message.records.length : 0;
    this.bytesUnderWay += bytes;
    this.#passOn("replica", () => {
      this.bytesUnderWay -= bytes;
      if (this.#ended.replica || !this.#session) return;
      this.#network.counts.messages++;
      this.#network.listener.delivered?.(this.#from, this.#to, message);
      this.#session.message(message);
    });
  }

  #toMaster(message: ReplicaMessage): void {
    if (this.#ended.replica || !this.#acceptor?.alive) return;
    this.#passOn("master", () => {
      if (this.#ended.master) return;
      this.#network.counts.messages++;
      this.#network.listener.delivered?.(this.#to, this.#from, message);
      this.#listener.message(message);
    });
  }

  #closedByReplica(reason: string): void {
    if (this.#ended.replica) return;
    this.#ended.replica = true;
    // The session hears of it as of any other end, but not from within its own call.
    this.#network.world.after(0, this.#acceptor, "session closed", () => this.#session?.closed());
    this.#passOn("master", () => this.#tellMaster(reason));
    this.#forgetWhenEnded();
  }

  #tellMaster(reason: string): void {
    if (this.#ended.master) return;
    this.#ended.master = true;
    this.#forgetWhenEnded();
    if (this.#caller.alive) this.#listener.closed(reason);
  }

  #tellReplica(): void {
    if (this.#ended.replica) return;
    this.#ended.replica = true;
    this.#forgetWhenEnded();
    if (this.#acceptor?.alive) this.#session?.closed();
  }

  /** Breaks; what is under way is lost. The sides that are not told go on talking to nobody. */
  sever(told: "both" | Side): void {
    const { world } = this.#network;
    this.#stuck.master = this.#stuck.replica = undefined;
    this.#severed = true;
    if (told !== "replica") {
      world.after(this.#network.delay(this.#to, this.#from), this.#caller, "reset", () => this.#tellMaster(RESET));
    }
    if (told !== "master" && this.#acceptor) {
      world.after(this.#network.delay(this.#from, this.#to), this.#acceptor, "reset", () => this.#tellReplica());
    }
  }

  processEnded(process: Process, silently: boolean): void {
    const side: Side = process === this.#caller ? "master" : "replica";
    this.#ended[side] = true;
    this.#forgetWhenEnded();
    if (silently || this.#severed) return;
    // What was sent before the end may still arrive, and the system of the machine ends the connection after it.
    if (side === "master") this.#passOn("replica", () => this.#tellReplica());
    else this.#passOn("master", () => this.#tellMaster(RESET));
  }

  #forgetWhenEnded(): void {
    if (this.#ended.master && (this.#ended.replica || !this.#acceptor)) this.#network.wireEnded(this);
  }

  /** Brings something to a side, behind what is already on its way there. */
  #passOn(to: Side, arrive: () => void): void {
    if (this.#severed) return;
    const { world } = this.#network;
    const [from, target] = to === "master" ? [this.#to, this.#from] : [this.#from, this.#to];
    const receiver = to === "master" ? this.#caller : this.#acceptor;
    if (receiver && !receiver.alive) return this.#meetNobody(to, from, target);
    const atMs = Math.max(this.#lastMs[to], world.nowMs + this.#network.delay(from, target));
    this.#lastMs[to] = atMs;
    world.after(atMs - world.nowMs, receiver, "message", () => this.#come(to, from, target, arrive));
  }

  /** The machine knows nothing of the connection any more, if it is on at all. */
  #meetNobody(to: Side, from: string, target: string): void {
    const { world } = this.#network;
    if (!this.#network.endpoint(target)?.powered || this.#network.isCut(from, target)) return;
    const delayMs = this.#network.delay(from, target) + this.#network.delay(target, from);
    if (to === "replica") world.after(delayMs, this.#caller, "reset", () => this.#tellMaster(RESET));
    else world.after(delayMs, this.#acceptor, "reset", () => this.#tellReplica());
  }

  #come(to: Side, from: string, target: string, arrive: () => void): void {
    if (this.#severed) return;
    const stuck = this.#stuck[to];
    if (stuck) {
      stuck.push(arrive);
      return;
    }
    const link = this.#network.link(from, target);
    if (!link.cut) return arrive();
    this.#stuck[to] = [arrive];
    link.waiting.push(() => this.#unstick(to, from, target));
  }

  #unstick(to: Side, from: string, target: string): void {
    const stuck = this.#stuck[to];
    this.#stuck[to] = undefined;
    const receiver = to === "master" ? this.#caller : this.#acceptor;
    for (const arrive of stuck ?? []) {
      this.#network.world.after(0, receiver, "message", () => this.#come(to, from, target, arrive));
    }
  }

  /** An attempt that came twice: the acceptor sees a connection that says Hello, and then nothing more. */
  #haunt(): void {
    const { world } = this.#network;
    const endpoint = this.#network.endpoint(this.#to);
    const process = endpoint?.process;
    const hello = this.#first;
    if (!hello || !endpoint?.powered || !process?.alive || this.#network.isCut(this.#from, this.#to)) return;
    world.after(0, process, "ghost", () => {
      const { server } = must(this.#network.endpoint(this.#to), "an endpoint stays");
      let open = true;
      const session = server?.acceptPush(
        () => undefined,
        () => {
          open = false;
          world.after(0, process, "ghost closed", () => session?.closed());
        },
      );
      if (!session) return;
      world.after(0, process, "ghost message", () => {
        if (!open) return;
        this.#network.listener.delivered?.(this.#from, this.#to, hello);
        session.message(hello);
      });
      world.after(this.#network.random.delay(500), process, "ghost closed", () => {
        if (!open) return;
        open = false;
        session.closed();
      });
    });
  }
}

class ProcessNetwork implements PeerNetwork {
  readonly #network: SimNetwork;
  readonly #address: string;
  readonly #process: Process;

  constructor(network: SimNetwork, address: string, process: Process) {
    this.#network = network;
    this.#address = address;
    this.#process = process;
  }

  connect(address: string, listener: PeerListener): PeerConnection {
    return this.#network.connect(this.#address, this.#process, address, listener);
  }

  register(masterAddress: string, request: RegisterRequest, signal: AbortSignal): Promise<RegisterReply> {
    return this.#call(masterAddress, signal, (server) => server.register(request));
  }

  survey(address: string, asker: Asker, signal: AbortSignal): Promise<SurveyReply> {
    return this.#call(address, signal, (server) => {
      const reply = server.survey(asker);
      this.#network.listener.surveyed?.(this.#address, address, reply);
      return reply;
    });
  }

  async requestPromise(address: string, request: PromiseRequest, signal: AbortSignal): Promise<PromiseReply> {
    return this.#call(address, signal, async (server) => {
      const reply = await server.requestPromise(request);
      this.#network.listener.promised?.(address, request, reply);
      return reply;
    });
  }

  readIndex(masterAddress: string, asker: Asker, signal: AbortSignal): Promise<Position> {
    return this.#call(masterAddress, signal, (server, theirs) => server.readIndex(asker, theirs));
  }

  #call<R>(
    to: string,
    signal: AbortSignal,
    handle: (server: Server, signal: AbortSignal) => R | Promise<R>,
  ): Promise<R> {
    const { promise, resolve, reject } = promiseParts<R>();
    if (!this.#process.alive) return promise;
    const call = new Call<R>(this.#network, { from: this.#address, to, process: this.#process, handle });
    const aborted = (): void => {
      call.abort();
      reject(signal.reason as Error);
    };
    call.settled = (act) => {
      signal.removeEventListener("abort", aborted);
      act({ resolve, reject });
    };
    if (signal.aborted) aborted();
    else {
      signal.addEventListener("abort", aborted);
      call.start();
    }
    return promise;
  }
}

interface PromiseParts<R> {
  readonly promise: Promise<R>;
  readonly resolve: (value: R) => void;
  readonly reject: (error: Error) => void;
}

function promiseParts<R>(): PromiseParts<R> {
  let resolve!: (value: R) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<R>((resolved, rejected) => {
    resolve = resolved;
    reject = rejected;
  });
  return { promise, resolve, reject };
}

/** A call of one node to another. */
class Call<R> {
  readonly #network: SimNetwork;
  readonly #from: string;
  readonly #to: string;
  readonly #process: Process;
  readonly #handle: (server: Server, signal: AbortSignal) => R | Promise<R>;
  readonly #abort = new AbortController();
  #over = false;
  settled: (act: (parts: Omit<PromiseParts<R>, "promise">) => void) => void = () => undefined;

  constructor(
    network: SimNetwork,
    options: {
      from: string;
      to: string;
      process: Process;
      handle: (server: Server, signal: AbortSignal) => R | Promise<R>;
    },
  ) {
    this.#network = network;
    this.#from = options.from;
    this.#to = options.to;
    this.#process = options.process;
    this.#handle = options.handle;
  }

  start(): void {
    const { world, random, counts } = this.#network;
    const link = this.#network.link(this.#from, this.#to);
    const copies = random.chance(link.duplication) ? 2 : 1;
    if (copies > 1) counts.duplicatedCalls++;
    for (let copy = 0; copy < copies; copy++) {
      const delayMs = this.#network.delay(this.#from, this.#to) + (copy > 0 ? random.delay(300) : 0);
      if (random.chance(link.loss)) counts.lostCalls++;
      else world.after(delayMs, undefined, "call", () => this.#arrive());
    }
  }

  abort(): void {
    this.#over = true;
    const { world } = this.#network;
    const delayMs = this.#network.delay(this.#from, this.#to);
    const process = this.#network.endpoint(this.#to)?.process;
    if (process)
      world.after(delayMs, process, "call aborted", () => this.#abort.abort(new Error("the caller has gone")));
  }

  #arrive(): void {
    if (this.#isHeldUp(this.#from, this.#to, () => this.#arrive())) return;
    const { world } = this.#network;
    const endpoint = this.#network.endpoint(this.#to);
    if (!endpoint?.powered) return;
    const { process } = endpoint;
    if (!process?.alive || !endpoint.server) {
      return this.#answer(({ reject }) => reject(unreachable(`connection refused by ${this.#to}`)));
    }
    world.after(0, process, "call", () => {
      const { server } = must(this.#network.endpoint(this.#to), "an endpoint stays");
      if (!server) return this.#answer(({ reject }) => reject(unreachable(`connection refused by ${this.#to}`)));
      const ended = this.#network.whenEnded(process, () =>
        this.#answer(({ reject }) => reject(unreachable(`${this.#to}: ${RESET}`))),
      );
      const answered = (act: (parts: Omit<PromiseParts<R>, "promise">) => void): void => {
        ended.forget();
        if (process.alive) this.#answer(act);
      };
      void Promise.resolve()
        .then(() => this.#handle(server, this.#abort.signal))
        .then(
          (value) => answered(({ resolve }) => resolve(value)),
          (error: unknown) => {
            if (error instanceof AssertionError) world.uncaught(error);
            answered(({ reject }) => reject(asTold(error)));
          },
        );
    });
  }

  #answer(act: (parts: Omit<PromiseParts<R>, "promise">) => void): void {
    const { world, random, counts } = this.#network;
    if (random.chance(this.#network.link(this.#to, this.#from).loss)) {
      counts.lostAnswers++;
      return;
    }
    const come = (): void => {
      if (this.#isHeldUp(this.#to, this.#from, come)) return;
      world.after(0, this.#process, "answer", () => {
        if (this.#over) return;
        this.#over = true;
        this.settled(act);
      });
    };
    world.after(this.#network.delay(this.#to, this.#from), undefined, "answer", come);
  }

  /** Before a cut some calls wait until it is mended, and then come late; others are lost. */
  #isHeldUp(from: string, to: string, go: () => void): boolean {
    const link = this.#network.link(from, to);
    if (!link.cut) return false;
    const { random, counts } = this.#network;
    if (random.chance(0.5)) {
      counts.delayedCalls++;
      link.waiting.push(go);
    } else counts.lostCalls++;
    return true;
  }
}

function unreachable(message: string): ReplicationError {
  return new ReplicationError("unreachable", message);
}

/** What of an error another node gets to see. */
function asTold(error: unknown): Error {
  if (error instanceof ReplicationError) return error;
  return new Error(error instanceof Error ? error.message : String(error));
}
