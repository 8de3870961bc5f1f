#!/bin/sh
# Check one approval with stock tools: sh check.sh [DIR], the directory of the kit; else that of this file. Needs
# ssh-keygen (OpenSSH 8.2), openssl (3.0), sha256sum and a POSIX shell with its usual tools; writes nothing. Prints what
# each step of README.txt proved; ends with 0 only if all hold. The same in every kit: take it from whom you trust more.
set -eu && export LC_ALL=C CDPATH=''
cd -- "${1:-$(dirname -- "$0")}"

say() { printf '%s\n' "$*" | tr -cd '[:print:]\n'; }
no() { say "NO   $*"; exit 1; }
same() { cmp -s - "$1"; } # Is what comes in the file $1?
base64() { openssl base64 -A; }
unbase64() { printf %s "$1" | openssl base64 -d -A; }
escape() { od -An -v -to1 | tr -d '\n' | sed 's/ /\\0/g'; } # bytes, as printf's %b takes them
hash() { openssl dgst -sha256 -binary | escape; }
leaf() { printf '\000' && cat "$1"; } # what is hashed for a record
pem() { printf -- '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA%s\n-----END PUBLIC KEY-----\n' "$(base64)"; }
signed() { # Is the file $3 signed, in $4, by the Ed25519 key that base64 $1 ends in and that openssl reads from $2?
    unbase64 "$1" | tail -c 32 | pem | same "$2" &&
        openssl pkeyutl -verify -pubin -inkey "$2" -rawin -in "$3" -sigfile "$4" >/dev/null 2>&1
}

# 1. No file was damaged by accident. A pipe would never end.
for file in *; do [ -f "$file" ] || no "1 files: $file is not a regular file"; done
for file in *; do [ "$file" = SHA256SUMS ] || sha256sum "$file"; done | same SHA256SUMS || no '1 files: not as listed'
say 'ok   1 files: as they were written'

# 2. The log signed its size and root: C2SP tlog-checkpoint, a signed-note. Its last line: a key hint and the signature.
read -r vkey <log.vkey && origin=${vkey%%+*} key=${vkey#*+} line=$(tail -n 1 checkpoint)
signed "${key#*+}" log.pem checkpoint.text checkpoint.sig || no '2 checkpoint: not signed by the key in log.vkey'
{ cat checkpoint.text && printf '\n\342\200\224 %s %s\n' "$origin" "${line##* }"; } | same checkpoint &&
    unbase64 "${line##* }" | tail -c 64 | same checkpoint.sig || no '2 checkpoint: not its text and signature'
{ read -r row && [ "$row" = "$origin" ] && read -r size && read -r root && [ "$size" -gt 0 ]; } <checkpoint.text ||
    no '2 checkpoint: not an origin, a size and a root'
say "ok   2 checkpoint: $size entries of $origin, signed by the key in log.vkey"

cut -d ' ' -f 2 entries | tr '\n' ' ' | grep -Eqx 'genesis (trust )*lease (objection )*(cosignature )*(claim )?' ||
    no 'entries: not the genesis, trust roots, a lease, objections, cosignatures and a claim'
ledger=$(printf %064d 0) about='' any='*' withdrawn='' standing='' && set --
while read -r n kind by || [ -n "$n$kind$by" ]; do
    case "$kind $n" in 'genesis 0') ;; genesis* | *' ' | *' 0'* | *' '*[!0-9]*) no "entries: $n is no $kind" ;; esac
    case $kind in genesis | trust) set -- "$@" "entry-$n.pae" && newest=$n ;; esac # the trust roots so far

    # 3. $by signed the statement, for this ledger and lease, with a key that a trust root gives to them.
    e=entry-$n && text=$(cat "$e.pae") && text=${text#DSSEv1 28 application/vnd.in-toto+json * }
    case $text in
    '{"_type":"https://in-toto.io/Statement/v1","predicate":{'*'"by":"'"$by"'",'*'"ledger":"'"$ledger"'",'*\
'},"predicateType":"https://station.calyx/'"$kind"'/v1","subject":[{"digest":{"sha256":"'"$about"$any) ;;
    *) no "3 entry $n: not a $kind by $by for this ledger${about:+ and lease}" ;;
    esac
    # Split at ], a principal's id and keys are on one line.
    read -r key <"$e.key" && cat "$@" | tr ']' '\n' | grep -iF "\"id\":\"$by\",\"keys\":[{" |
        grep -qF "{\"key\":\"$key\"," || no "3 entry $n: no trust root in this kit gives its key to $by"
    keyid=$(ssh-keygen -l -f "$e.key" | cut -d ' ' -f 2) touch=''
    if [ -f "$e.ed25519" ]; then
        sig=$(base64 <"$e.ed25519")
        signed "${key#ssh-ed25519 }" "$e.pem" "$e.pae" "$e.ed25519" || no "3 entry $n: openssl refuses it from $by"
    else
        sig=$(sed '/^-----[A-Z]* SSH SIGNATURE-----$/d' "$e.sig" | tr -d '\n') space=statement-v1@station.calyx
        [ "$kind" != cosignature ] || space=approval-v1@station.calyx
        grep -qFx "$by namespaces=\"$space\" $key" allowed_signers &&
            said=$(ssh-keygen -Y verify -f allowed_signers -I "$by" -n "$space" -s "$e.sig" <"$e.pae" 2>/dev/null) &&
            [ "${said##* }" = "$keyid" ] || no "3 entry $n: ssh-keygen refuses it from $by"
        case $key in sk-*) touch=$(($(unbase64 "$sig" | tail -c 5 | od -An -tu1 -N1) & 5)) ;; esac # a token's flags
        case $touch in '') ;; 1) touch=', by touch' ;; 5) touch=', by touch, user verified' ;;
        *) no "3 entry $n: the token was not touched" ;; esac
    fi
    say "ok   3 entry $n: $kind, signed by $by with $keyid$touch"

    # 4. The record holds statement, key and signature, and is in the checkpoint's tree: RFC 6962, C2SP tlog-proof.
    case $(cat "$e.record") in
    '{"envelope":{"payload":"'"$(printf %s "$text" | base64)"'","payloadType":"application/vnd.in-toto+json",'\
'"signatures":[{"keyid":"'"$keyid"'","sig":"'"$sig"'"}]},"prev":"'*'","seq":'"$n"',"time":"'*'"}') ;;
    *) no "4 entry $n: the record does not hold this statement and signature" ;;
    esac
    node=$(leaf "$e.record" | hash) at=$n last=$((size - 1))
    { read -r row && [ "$row" = c2sp.org/tlog-proof@v1 ] && read -r row && [ "$row" = "index $n" ] &&
            [ "$at" -le "$last" ] || no "4 entry $n: no proof of this entry"
        while read -r row && [ -n "$row" ]; do
            beside=$(unbase64 "$row" | escape)
            [ "$(printf %b "$beside" | base64)" = "$row" ] && [ "$last" -gt 0 ] || no "4 entry $n: no proof"
            # The last node of a level goes up as it is, unless there is one on its left.
            until [ "$at" -lt "$last" ] || [ "$((at % 2))" -eq 1 ]; do at=$((at / 2)) last=$((last / 2)); done
            if [ "$((at % 2))" -eq 1 ]; then pair=$beside$node; else pair=$node$beside; fi
            node=$(printf '\001%b' "$pair" | hash) at=$((at / 2)) last=$((last / 2))
        done
        same checkpoint || no "4 entry $n: a proof for another checkpoint"
    } <"$e.tlog-proof"
    [ "$last" -eq 0 ] && [ "$(printf %b "$node" | base64)" = "$root" ] || no "4 entry $n: not in the checkpoint's tree"
    say "ok   4 entry $n: in the tree of the checkpoint, recorded $(sed 's/.*"time":"\(.*\)"}/\1/' "$e.record")"

    me=" $(printf %s "$by" | tr '[:upper:]' '[:lower:]'):"
    case $kind:$text in
    genesis:*) # 5. The leaf of entry 0 is the ledger's name, and it names the log's key.
        grep -qF "\"log_key\":\"$(sed 's/[\\"]/\\&/g' log.vkey)\"," "$e.pae" || no '5 ledger: names another log key'
        ledger=$(leaf "$e.record" | sha256sum | cut -c 1-64)
        say "ok   5 ledger: $ledger, whose entry 0 names the key in log.vkey" ;;
    lease:*) # 6. The newest trust root here revokes these keys, each from an entry on. 7. This is the lease.
        tr '{' '\n' <"entry-$newest.pae" | sed -n 's/^"key":"\(.*\)","position":\([0-9]*\)}.*/\1 \2/p' | same revoked ||
            no "6 revoked: not the keys that the trust root of entry $newest says are compromised"
        printf %s "$text" | same lease.json || no '7 lease: lease.json is another statement'
        digest=$(sha256sum <lease.json | cut -c 1-64) name=$(sed 's/.*,"id":"\([^"]*\)","intent":.*/\1/' lease.json)
        about=$digest'"},"name":"'$name'"}]}' any=''
        say "ok   6 revoked: as the trust root of entry $newest says" && say "ok   7 lease: $name, digest $digest" ;;
    objection:*'"withdraw"},"predicateType":'*) withdrawn=$withdrawn$me$n && say "--   8 entry $n: $by withdrew" ;;
    objection:*) no "8 entry $n: $by denied this lease for good" ;;
    cosignature:*) # 8. It was not withdrawn, and its key was not compromised yet.
        head=${text#*'"size":'} role=${text##*'"role":"'} until=$me-1$withdrawn && until=${until##*"$me"}
        [ "${head%%\}*}" -gt "${until%% *}" ] || { say "--   8 entry $n: withdrawn" && continue; }
        from=$(sed -n "s|^$key ||p" revoked) && [ "${from:-$size}" -gt "$n" ] ||
            no "8 entry $n: the key of $by is revoked from entry $from on"
        standing="$standing, $by (${role%%'"'*}, entry $n)" && say "ok   8 entry $n: $by cosigned $name" ;;
    claim:*) # 9. An executor counted two of these cosignatures, after which no withdrawal is lawful.
        pair=$(printf '%s\n' "$text" | sed 's/.*,"counted":\[\([0-9,]*\)],"epoch":.*/\1/')
        case $standing in *", entry ${pair%,*})"*", entry ${pair#*,})"*) ;;
        *) no "9 entry $n: counts the entries $pair, which do not both stand here" ;; esac
        say "ok   9 entry $n: $by claimed the lease and counted the entries $pair" ;;
    esac
done <entries
grep -q '^[0-9]* claim ' entries && claimed='' || claimed='; no claim in this kit says that this is enough'
[ -n "$standing" ] && say "ok   $name stands cosigned by ${standing#, }$claimed" || no 'no cosignature stands'
