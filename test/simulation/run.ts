/** What the simulator's programs are bundled from; see `test/simulate.mjs`. */
export { outsideMicrotasks } from "./microtasks.js";
export { plantedFaults } from "./planted.js";
export { runSeed, type SeedOptions, type SeedResult } from "./simulation.js";
