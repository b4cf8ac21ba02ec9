/** Vitest's global set-up for tests that start the compiled programs. */
import { build } from "../cmd/setup.mjs";

export default function setup() {
  build();
}
