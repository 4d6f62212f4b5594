#!/bin/sh
# Makes the certificates of the tests of encrypted mirrors, in the folder of this script, with openssl 3:
#   sh crates/vitreous/tests/integration/mirror/certificates/make_certificates.sh
# An authority, and a server's certificate from it that is good for 127.0.0.1 and localhost; one for another host; one that
# has expired; and one from an authority that the tests do not trust. All but the expired one are valid for about 100 years. Their
# keys protect nothing: they are public.
set -eu
cd "$(dirname "$0")"
key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key.pem"; }
authority() {
    key "$1"
    openssl req -x509 -new -key "$1.key.pem" -sha256 -subj "/CN=vitreous test authority $1" \
        -days 36500 \
        -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$1.pem"
}
# Name, authority, names it is good for, end.
server() {
    key "$1"
    openssl req -new -key "$1.key.pem" -subj "/CN=vitreous test server" -out request.pem
    printf 'subjectAltName=%s\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n' "$3" > extensions.txt
    printf '01\n' > serial.txt
    : > index.txt
    printf '[ca]\ndefault_ca=a\n[a]\ndatabase=index.txt\nserial=serial.txt\nnew_certs_dir=.\npolicy=p\n[p]\ncommonName=supplied\n' > ca.txt
    openssl ca -batch -notext -config ca.txt -md sha256 -cert "$2.pem" -keyfile "$2.key.pem" -in request.pem \
        -startdate 20250101000000Z -enddate "$4" -extfile extensions.txt -out "$1.pem" 2> /dev/null
    rm -f request.pem extensions.txt serial.txt* index.txt* ca.txt 01.pem
}
authority authority
authority stranger
server good authority "IP:127.0.0.1,DNS:localhost" 21250101000000Z
server other-host authority "DNS:mirror.example" 21250101000000Z
server expired authority "IP:127.0.0.1,DNS:localhost" 20250201000000Z
server unknown stranger "IP:127.0.0.1,DNS:localhost" 21250101000000Z
# They are not used again.
rm authority.key.pem stranger.key.pem stranger.pem
