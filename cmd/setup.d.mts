/** Types of setup.mjs, which is plain JavaScript because it runs before anything is installed. */
export const root: string;
export class SetupError extends Error {}
export function prepare(): void;
export function orExit(work: () => void | Promise<void>): Promise<void>;
export function checkNode(version?: string): void;
export function install(): void;
export function build(options?: { always?: boolean }): void;
