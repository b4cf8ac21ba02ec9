import { Document, isMap, isScalar } from "yaml";
import type { NodeConfig } from "./node-config.js";

/**
 * The effective configuration as YAML, defaults and environment included. Loaded again it gives the same configuration.
 * Of the cluster's secret it shows the file and never the content.
 */
export function printConfig(config: NodeConfig): string {
  const document = new Document(config.settings);
  const cluster = document.get("cluster");
  if (isMap(cluster)) {
    const secretFile = cluster.get("secret_file", true);
    if (isScalar(secretFile)) secretFile.comment = " content: (hidden)";
  }
  return document.toString({ lineWidth: 0 });
}
