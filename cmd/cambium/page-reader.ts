/** Reads keys page by page, with patience, and passes over what it cannot read. */
import { CambiumError, type ScanPage, type ScanPageOptions } from "../../api/client/node.js";
import { isPassingRead, type RetryOptions, withRetries } from "./retry.js";

/** The part of the client that is needed. */
export interface Reader {
  scanPage(options: ScanPageOptions): Promise<ScanPage>;
}

export interface PagesOptions extends RetryOptions {
  readonly reader: Reader;
  /** Only keys that begin so. */
  readonly prefix: string;
  readonly keysOnly: boolean;
  /** Told of a key whose entry is larger than the client reads. Not with `keysOnly`. */
  readonly unreadable?: (key: string, reason: string) => void;
}

/**
 * The pages of all keys in their order. The page after the one that is handed out is on its way already. Throws
 * `CambiumError`.
 */
export async function* pagesOf(options: PagesOptions): AsyncGenerator<ScanPage, void, undefined> {
  let coming: Promise<ScanPage> | undefined = readPage(undefined, options);
  while (coming) {
    const page: ScanPage = await coming;
    coming = page.nextPageToken && readPage(page.nextPageToken, options);
    // It may fail while the page before is still worked on; that is met when its turn comes.
    coming?.catch(() => undefined);
    yield page;
  }
}

async function readPage(pageToken: Uint8Array | undefined, options: PagesOptions): Promise<ScanPage> {
  const { reader, prefix, keysOnly, signal, unreadable } = options;
  const read = (request: Partial<ScanPageOptions>): Promise<ScanPage> =>
    withRetries(() => reader.scanPage({ prefix, keysOnly, pageToken, signal, ...request }), {
      ...options,
      isPassing: isPassingRead,
    });
  try {
    return await read({});
  } catch (error) {
    if (!(error instanceof CambiumError) || !isTooLarge(error) || !unreadable) throw error;
    // The node ends a page before it is larger than the client reads, unless its first entry alone is.
    const page = await read({ keysOnly: true, limit: 1 });
    for (const { key } of page.entries) unreadable(key, error.message);
    return { ...page, entries: [] };
  }
}

function isTooLarge({ code }: CambiumError): boolean {
  return code === "limit_exceeded" || code === "resource_exhausted";
}
