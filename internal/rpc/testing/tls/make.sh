#!/bin/sh
# Makes the certificates of the tests anew. They are good for a hundred years and for nothing but tests: everybody has the keys.
set -eu
cd "$(dirname "$0")"
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/CN=Cambium test-only authority $1" \
    -addext "basicConstraints=critical,CA:TRUE" -keyout "test-only-$1.key" -out "test-only-$1.crt"
}
# name, authority, subject, alternative names, use
leaf() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$3" -keyout "test-only-$1.key" -out request.pem
  printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=%s\n%s\n' "$5" "${4:+subjectAltName=$4}" > extensions.txt
  openssl x509 -req -in request.pem -CA "test-only-$2.crt" -CAkey "test-only-$2.key" -CAcreateserial -days "${6:-36500}" \
    -extfile extensions.txt -out "test-only-$1.crt"
}
authority ca
authority other-ca
names="DNS:localhost,IP:127.0.0.1,IP:127.0.0.2,IP:::1"
leaf node ca "/CN=node-1.test" "DNS:node-1.test,$names" serverAuth,clientAuth
leaf node-renewed ca "/CN=node-1.test" "DNS:node-1.test,$names" serverAuth,clientAuth
leaf client ca "/CN=web.test" "" clientAuth
leaf stranger other-ca "/CN=web.test" "DNS:node-1.test,$names" serverAuth,clientAuth
leaf elsewhere ca "/CN=elsewhere.test" "DNS:elsewhere.test" serverAuth,clientAuth
rm -f request.pem extensions.txt ./*.srl
