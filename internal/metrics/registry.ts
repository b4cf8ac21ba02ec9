/**
 * The numbers that a node tells a monitoring system, and the text in which it tells them: Prometheus' exposition format 0.0.4.
 *
 * What is counted is counted with an array write: labels are resolved once, by `with`, and kept by whoever counts. What can be looked
 * up is looked up when somebody asks. Labels have few values each: methods, codes, members; never keys.
 */
import { assert } from "../base/assert.js";
import { Counter, Histogram } from "./instruments.js";

export { Counter, Histogram } from "./instruments.js";

/** Of what `render` gives. */
export const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export type MetricType = "counter" | "gauge" | "histogram";

/** What a metric is, whatever its value. */
export interface MetricInfo {
  readonly name: string;
  /** A sentence for people. */
  readonly help: string;
  readonly type: MetricType;
  /** Names of its labels. */
  readonly labels: readonly string[];
}

export interface MetricOptions {
  /** With its unit: `_seconds`, `_bytes`; `_total` at the end where it only grows. */
  readonly name: string;
  readonly help: string;
}

export interface LabelledOptions extends MetricOptions {
  readonly labels: readonly string[];
}

export interface HistogramOptions extends MetricOptions {
  /** Upper bounds, rising, each of them belonging to its bucket; what is above the last one is counted too. */
  readonly buckets: readonly number[];
}

export interface GaugeOptions extends MetricOptions {
  /** `counter` for what only grows, and is counted elsewhere; absent: `gauge`. */
  readonly type?: "counter" | "gauge";
}

/** A value for each set of label values. */
export type Samples = Iterable<readonly [labelValues: readonly string[], value: number]>;

/** The instruments of one metric, one for each set of label values. */
export interface Family<Instrument> {
  /** Always the same instrument for the same values, in the order of the labels. Keep it: looking it up is not free. */
  with(...labelValues: string[]): Instrument;
}

interface Metric extends MetricInfo {
  write(lines: string[]): void;
}

const METRIC_NAME = /^(?:cambium|nodejs|process)(?:_[a-z0-9]+)+$/;
const LABEL_NAME = /^[a-z]+(?:_[a-z]+)*$/;

export class Registry {
  readonly #metrics = new Map<string, Metric>();
  readonly #others: readonly Registry[];

  /** `others`: what they tell is told after this one's; they have no name in common. */
  constructor(...others: readonly Registry[]) {
    this.#others = others;
  }

  /** What there is, in the order in which it is rendered. */
  get infos(): readonly MetricInfo[] {
    const own = [...this.#metrics.values()].map(({ name, help, type, labels }) => ({ name, help, type, labels }));
    return [...own, ...this.#others.flatMap(({ infos }) => infos)];
  }

  counter(options: MetricOptions): Counter {
    return this.counters({ ...options, labels: [] }).with();
  }

  counters(options: LabelledOptions): Family<Counter> {
    const { name } = options;
    return this.#family(
      { ...options, type: "counter" },
      () => new Counter(),
      (lines, labels, counter) => {
        lines.push(`${name}${inBraces(labels)} ${inText(counter.value)}`);
      },
    );
  }

  histogram(options: HistogramOptions): Histogram {
    return this.histograms({ ...options, labels: [] }).with();
  }

  histograms(options: HistogramOptions & LabelledOptions): Family<Histogram> {
    const { name, buckets, labels: names } = options;
    assert(!names.includes("le"), `${name}: the label le is the buckets' own`);
    return this.#family(
      { ...options, type: "histogram" },
      () => new Histogram(buckets),
      (lines, labels, histogram) => {
        const before = labels === "" ? "" : `${labels},`;
        const counts = histogram.cumulativeCounts();
        counts.forEach((count, place) => {
          const le = place < buckets.length ? inText(buckets[place]!) : "+Inf";
          lines.push(`${name}_bucket{${before}le="${le}"} ${inText(count)}`);
        });
        lines.push(`${name}_sum${inBraces(labels)} ${inText(histogram.sum)}`);
        lines.push(`${name}_count${inBraces(labels)} ${inText(counts.at(-1) ?? 0)}`);
      },
    );
  }

  /** `read` is called for each `render`; undefined: there is no such value now. */
  gauge(options: GaugeOptions, read: () => number | undefined): void {
    this.gauges({ ...options, labels: [] }, () => {
      const value = read();
      return value === undefined ? [] : [[[], value]];
    });
  }

  /** The same with labels; each set of values at most once. */
  gauges(options: GaugeOptions & LabelledOptions, read: () => Samples): void {
    const { name, labels, type = "gauge" } = options;
    this.#add({ ...options, type }, (lines) => {
      for (const [values, value] of read()) lines.push(`${name}${inBraces(pairs(labels, values))} ${inText(value)}`);
    });
  }

  /** Everything as text, with the metrics in the order in which they were added. */
  render(): string {
    const lines: string[] = [];
    for (const metric of this.#metrics.values()) {
      lines.push(`# HELP ${metric.name} ${metric.help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`);
      lines.push(`# TYPE ${metric.name} ${metric.type}`);
      metric.write(lines);
    }
    const own = lines.length === 0 ? "" : `${lines.join("\n")}\n`;
    return own + this.#others.map((other) => other.render()).join("");
  }

  #family<Instrument>(
    info: MetricInfo,
    make: () => Instrument,
    write: (lines: string[], labels: string, instrument: Instrument) => void,
  ): Family<Instrument> {
    const instruments = new Map<string, Instrument>();
    this.#add(info, (lines) => {
      for (const [labels, instrument] of instruments) write(lines, labels, instrument);
    });
    return {
      with: (...values) => {
        const labels = pairs(info.labels, values);
        let instrument = instruments.get(labels);
        if (instrument === undefined) instruments.set(labels, (instrument = make()));
        return instrument;
      },
    };
  }

  #add({ name, help, type, labels }: MetricInfo, write: (lines: string[]) => void): void {
    assert(METRIC_NAME.test(name), `${name} is no name of a metric here`);
    assert(!this.#metrics.has(name), `${name} is a metric already`);
    assert((type === "counter") === name.endsWith("_total"), `${name}: counters, and only they, end in _total`);
    for (const label of labels) assert(LABEL_NAME.test(label), `${name}: ${label} is no name of a label`);
    this.#metrics.set(name, { name, help, type, labels, write });
  }
}

/** Label names and values, as they stand between the braces. */
function pairs(names: readonly string[], values: readonly string[]): string {
  assert(names.length === values.length, `there are ${names.length} labels and ${values.length} values`);
  return names.map((name, place) => `${name}="${escaped(values[place]!)}"`).join(",");
}

function inBraces(labels: string): string {
  return labels === "" ? "" : `{${labels}}`;
}

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function inText(value: number): string {
  if (value === Infinity) return "+Inf";
  return value === -Infinity ? "-Inf" : String(value);
}
