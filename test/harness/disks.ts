/** Small file systems of their own for a test: what fills up, turns read-only or loses power there harms nothing else. */
import { execFile, execFileSync } from "node:child_process";
import { mkdir, mkdtemp, open, rm, statfs, truncate, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import type { TestContext } from "vitest";

const run = promisify(execFile);

/** Ends a test that this machine cannot run, saying so. The run then counts it as skipped, never as passed. */
export function needs(context: TestContext, ...tools: readonly string[]): void {
  const missing = tools.filter((tool) => !isThere(tool));
  const reasons = missing.map((tool) => `${tool} is not installed`);
  if (process.platform !== "linux") reasons.unshift("it needs Linux");
  if (reasons.length > 0) notRun(context, reasons.join(", "));
}

/** Ends a test that this machine does not let run. */
export function notRun(context: TestContext, reason: string): never {
  console.error(`NOT RUN, ${reason}: ${context.task.name}`);
  return context.skip(reason);
}

function isThere(tool: string): boolean {
  try {
    execFileSync("sh", ["-c", `command -v ${tool}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Makes a disk that goes with the test. Where the machine does not allow that, the test does not run. */
export async function diskFor(context: TestContext, kind: DiskKind, bytes: number): Promise<Disk> {
  needs(context, "mount", ...(kind === "ext4" ? ["mkfs.ext4"] : []));
  if (process.getuid?.() !== 0) notRun(context, "it needs root");
  try {
    const disk = await Disk.make(kind, bytes);
    context.onTestFinished(() => disk.close());
    return disk;
  } catch (error) {
    return notRun(context, `this machine does not mount: ${String(error)}`);
  }
}

/** Either in memory, or an ext4 file system in a file. */
export type DiskKind = "tmpfs" | "ext4";

export class Disk {
  /** Where it is mounted, while it is. */
  readonly directory: string;
  readonly #scratch: string;
  #isMounted = false;

  private constructor(scratch: string) {
    this.#scratch = scratch;
    this.directory = path.join(scratch, "disk");
  }

  /** Makes a disk of so many bytes, and mounts it. Rejects where the machine does not allow that. */
  static async make(kind: DiskKind, bytes: number): Promise<Disk> {
    const disk = new Disk(await mkdtemp(path.join(os.tmpdir(), "cambium-")));
    try {
      await mkdir(disk.directory);
      if (kind === "tmpfs") {
        await run("mount", ["-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", disk.directory]);
        disk.#isMounted = true;
      } else {
        await writeFile(disk.#image, "");
        await truncate(disk.#image, bytes);
        await run("mkfs.ext4", ["-q", "-F", "-b", "1024", "-m", "0", disk.#image]);
        await disk.mount();
      }
    } catch (error) {
      await disk.close();
      throw error;
    }
    return disk;
  }

  get #image(): string {
    return path.join(this.#scratch, "image");
  }

  /** Mounts an ext4 disk again; its journal brings it to where it was. */
  async mount(): Promise<void> {
    await run("mount", ["-o", "loop", this.#image, this.directory]);
    this.#isMounted = true;
  }

  async unmount(): Promise<void> {
    await run("umount", [this.directory]);
    this.#isMounted = false;
  }

  async remount(mode: "ro" | "rw"): Promise<void> {
    await run("mount", ["-o", `remount,${mode}`, this.directory]);
  }

  /** Lets the kernel make a disk read-only at once, files that are open included, as it does when it finds a broken one. */
  async turnReadOnly(): Promise<void> {
    await run("mount", ["-o", "remount,abort", this.directory]);
  }

  /**
   * Cuts the power of an ext4 disk: what is not on it by now, its journal included, never comes to it (FS_IOC_SHUTDOWN with
   * NOLOGFLUSH). Everything that is done to it fails, until it is mounted again. Rejects where the kernel does not know how.
   */
  async cutPower(): Promise<void> {
    const script =
      'sysopen(my $disk, $ARGV[0], 0) or die $!; my $how = pack("I", 2); ioctl($disk, 0x8004587d, $how) or die $!;';
    await run("perl", ["-e", script, this.directory]);
  }

  /** Fills the disk until so many bytes are free, as far as its blocks allow. */
  async fill(freeBytes: number): Promise<void> {
    const ballast = await open(this.#ballast, "a");
    try {
      for (;;) {
        const { bavail, bsize } = await statfs(this.directory);
        const length = Math.min(1 << 20, bavail * bsize - freeBytes);
        if (length <= 0) return;
        await ballast.write(Buffer.alloc(length));
        // ext4 counts blocks as taken only once they are.
        await ballast.sync();
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    } finally {
      await ballast.close();
    }
  }

  /** Gives back what `fill` took. */
  async free(): Promise<void> {
    await rm(this.#ballast, { force: true });
  }

  get #ballast(): string {
    return path.join(this.directory, "ballast");
  }

  async close(): Promise<void> {
    if (this.#isMounted) await this.unmount();
    await rm(this.#scratch, { recursive: true, force: true });
  }
}
