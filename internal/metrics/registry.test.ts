import { describe, expect, test } from "vitest";
import { AssertionError } from "../base/assert.js";
import { CONTENT_TYPE, Registry } from "./registry.js";

describe("the text", () => {
  test("is the exposition format 0.0.4, down to the last line break", () => {
    const registry = new Registry();
    registry.counter({ name: "cambium_writes_total", help: "Writes." }).increment();
    registry.gauge({ name: "cambium_keys", help: "Keys." }, () => 12.5);
    const times = registry.histogram({ name: "cambium_sync_seconds", help: "Syncs.", buckets: [0.001, 0.5, 2] });
    for (const seconds of [0.001, 0.25, 0.25, 3]) times.observe(seconds);
    expect(CONTENT_TYPE).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(registry.render()).toBe(
      [
        "# HELP cambium_writes_total Writes.",
        "# TYPE cambium_writes_total counter",
        "cambium_writes_total 1",
        "# HELP cambium_keys Keys.",
        "# TYPE cambium_keys gauge",
        "cambium_keys 12.5",
        "# HELP cambium_sync_seconds Syncs.",
        "# TYPE cambium_sync_seconds histogram",
        'cambium_sync_seconds_bucket{le="0.001"} 1',
        'cambium_sync_seconds_bucket{le="0.5"} 3',
        'cambium_sync_seconds_bucket{le="2"} 3',
        'cambium_sync_seconds_bucket{le="+Inf"} 4',
        "cambium_sync_seconds_sum 3.501",
        "cambium_sync_seconds_count 4",
        "",
      ].join("\n"),
    );
  });

  test("has nothing in it when there is nothing to tell", () => {
    expect(new Registry().render()).toBe("");
  });

  test("escapes backslashes, quotes and line breaks in labels, and no quotes in what is said of a metric", () => {
    const registry = new Registry();
    const family = registry.counters({ name: "cambium_odd_total", help: 'a "b" \\ c\nd', labels: ["what"] });
    family.with('a"b\\c\nd').increment(2);
    expect(registry.render()).toBe(
      '# HELP cambium_odd_total a "b" \\\\ c\\nd\n# TYPE cambium_odd_total counter\ncambium_odd_total{what="a\\"b\\\\c\\nd"} 2\n',
    );
  });

  test("keeps the labels of a histogram before the bound of each bucket", () => {
    const registry = new Registry();
    const family = registry.histograms({ name: "cambium_x_seconds", help: "X.", buckets: [1], labels: ["a", "b"] });
    family.with("1", "2").observe(0.5);
    expect(registry.render().split("\n").slice(2, -1)).toEqual([
      'cambium_x_seconds_bucket{a="1",b="2",le="1"} 1',
      'cambium_x_seconds_bucket{a="1",b="2",le="+Inf"} 1',
      'cambium_x_seconds_sum{a="1",b="2"} 0.5',
      'cambium_x_seconds_count{a="1",b="2"} 1',
    ]);
  });

  test("says what is no finite number in the words of the format", () => {
    const registry = new Registry();
    registry.gauges({ name: "cambium_odd", help: "Odd.", labels: ["what"] }, () => [
      [["most"], Infinity],
      [["least"], -Infinity],
      [["none"], Number.NaN],
      [["large"], 1e21],
    ]);
    expect(registry.render().split("\n").slice(2, -1)).toEqual([
      'cambium_odd{what="most"} +Inf',
      'cambium_odd{what="least"} -Inf',
      'cambium_odd{what="none"} NaN',
      'cambium_odd{what="large"} 1e+21',
    ]);
  });

  test("leaves a value out that is not known now, and not the metric", () => {
    const registry = new Registry();
    registry.gauge({ name: "cambium_lag_seconds", help: "Lag." }, () => undefined);
    expect(registry.render()).toBe("# HELP cambium_lag_seconds Lag.\n# TYPE cambium_lag_seconds gauge\n");
  });
});

test("the same labels are the same counter, whoever asks for it", () => {
  const family = new Registry().counters({ name: "cambium_x_total", help: "X.", labels: ["a", "b"] });
  const counter = family.with("1", "2");
  counter.increment();
  family.with("1", "2").increment(2.5);
  family.with("2", "1").increment();
  expect(counter.value).toBe(3.5);
});

test("a value on a bound belongs to the bucket below it, one above all of them to the last", () => {
  const histogram = new Registry().histogram({ name: "cambium_x_bytes", help: "X.", buckets: [-1, 0, 1] });
  for (const value of [-2, -1, 0, 0.5, 1, 1.1, 100]) histogram.observe(value);
  expect(histogram.cumulativeCounts()).toEqual([2, 3, 5, 7]);
  expect(histogram.sum).toBeCloseTo(99.6);
});

test("what is registered can be listed", () => {
  const registry = new Registry();
  registry.counters({ name: "cambium_x_total", help: "X.", labels: ["a"] });
  registry.gauge({ name: "process_y_seconds_total", help: "Y.", type: "counter" }, () => 1);
  expect(registry.infos).toEqual([
    { name: "cambium_x_total", help: "X.", type: "counter", labels: ["a"] },
    { name: "process_y_seconds_total", help: "Y.", type: "counter", labels: [] },
  ]);
});

test.each<[string, (registry: Registry) => void]>([
  ["a name that is not of this program", (registry) => registry.gauge({ name: "other_x", help: "" }, () => 1)],
  ["a name with other characters", (registry) => registry.gauge({ name: "cambium_ä", help: "" }, () => 1)],
  ["a counter without its ending", (registry) => void registry.counter({ name: "cambium_x", help: "" })],
  [
    "a gauge with the ending of a counter",
    (registry) => registry.gauge({ name: "cambium_x_total", help: "" }, () => 1),
  ],
  [
    "a label that is reserved",
    (registry) => void registry.counters({ name: "cambium_x_total", help: "", labels: ["__a"] }),
  ],
  [
    "a label that buckets have",
    (registry) => void registry.histograms({ name: "cambium_x", help: "", labels: ["le"], buckets: [1] }),
  ],
  ["buckets that do not rise", (registry) => void registry.histogram({ name: "cambium_x", help: "", buckets: [1, 1] })],
  [
    "a bucket without an end",
    (registry) => void registry.histogram({ name: "cambium_x", help: "", buckets: [Infinity] }),
  ],
  ["no bucket", (registry) => void registry.histogram({ name: "cambium_x", help: "", buckets: [] })],
  [
    "fewer values than labels",
    (registry) => void registry.counters({ name: "cambium_x_total", help: "", labels: ["a"] }).with(),
  ],
  [
    "a name that is taken",
    (registry) => {
      registry.gauge({ name: "cambium_x", help: "" }, () => 1);
      registry.gauge({ name: "cambium_x", help: "" }, () => 1);
    },
  ],
])("%s is a mistake that shows at once", (_what, mistake) => {
  expect(() => mistake(new Registry())).toThrow(AssertionError);
});
