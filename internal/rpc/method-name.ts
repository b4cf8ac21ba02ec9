import type { DescMethod } from "@bufbuild/protobuf";

/** As the access table names it. */
export const methodName = ({ parent, name }: DescMethod): string => `${parent.typeName}/${name}`;
