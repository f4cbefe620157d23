# Tells kube-proxy on a Windows node which network is there: it sets the machine variables CNINetworkName and, for an
# overlay, CNISourceVip. README.md beside this file explains the settings. It has never run on Windows.
#
# The functions of the first part decide: they take objects and return objects. Those of the second part ask the node
# and change it. Windows PowerShell 5.1 is enough.

$ErrorActionPreference = 'Stop'
# Only variables that were never set are mistakes: an HNS object need not have every property.
Set-StrictMode -Version 1.0

# --- Decisions -------------------------------------------------------------------------------------------------------

# A line for each mistake in the settings; none if they are good.
function Find-Mistake($settings) {
    foreach ($name in @($settings.Keys | Sort-Object)) {
        if ("$($settings[$name])" -like 'FILL-IN*') { "$name still begins with FILL-IN; write the value that it asks for" }
    }
    if (-not $settings.NETWORK_NAME) {
        'NETWORK_NAME is missing; write the name of the HNS network, such as Calico or flannel.4096'
    }
    if ($settings.SOURCE_VIP -and -not (Test-Address $settings.SOURCE_VIP)) {
        "SOURCE_VIP is $($settings.SOURCE_VIP), which is no IPv4 address"
    }
    foreach ($name in 'SUBNET_FILE', 'IPAM_DIRECTORY') {
        if ($settings.HOST_LOCAL -and -not $settings[$name]) { "HOST_LOCAL is set without $name; set both" }
    }
    if ("$($settings.INTERVAL_SECONDS)" -notmatch '^[1-9]\d{0,3}$') {
        "INTERVAL_SECONDS is '$($settings.INTERVAL_SECONDS)'; write a number from 1 to 9999"
    }
}

function Test-Address([string] $text) {
    $text -match '^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$'
}

# The HNS network of that name, or nothing.
function Select-Network($networks, [string] $name) {
    $networks | Where-Object { $_.Name -eq $name } | Select-Object -First 1
}

# Services of an overlay need an address of the node inside it, the source VIP; those of another network need none.
function Test-Overlay($network) {
    $network.Type -eq 'Overlay'
}

# The address of an HNS endpoint by its name, or nothing while it has none.
function Select-EndpointAddress($endpoints, [string] $name) {
    $endpoints | Where-Object { $_.Name -eq $name -and $_.IPAddress } | Select-Object -First 1 | ForEach-Object { "$($_.IPAddress)" }
}

# The address that host-local has reserved already, or nothing. Its files have the address as their name; inside are the
# id of the container and the name of the interface, a line each.
function Select-Reservation($files, [string] $container, [string] $interface) {
    $files |
        Where-Object { (Test-Address $_.Name) -and $_.Lines.Count -ge 2 -and $_.Lines[0] -eq $container -and $_.Lines[1] -eq $interface } |
        Select-Object -First 1 |
        ForEach-Object { $_.Name }
}

# The range of this node as `FLANNEL_SUBNET=10.244.1.1/24` has it, as the network 10.244.1.0/24; nothing if there is none.
function ConvertTo-Subnet($lines) {
    foreach ($line in $lines) {
        if ($line -match '^FLANNEL_SUBNET=(\d+\.\d+\.\d+)\.\d+/24\s*$') { return "$($Matches[1]).0/24" }
    }
}

# The address in the answer of an IPAM plugin, of all versions of CNI; nothing if there is none.
function Select-AnsweredAddress($answer) {
    $names = @($answer.PSObject.Properties | ForEach-Object { $_.Name })
    $address = ''
    if ($names -contains 'ips' -and @($answer.ips).Count) { $address = @($answer.ips)[0].address }
    elseif ($names -contains 'ip4') { $address = $answer.ip4.ip }
    $bare = "$address" -replace '/.*$', ''
    if (Test-Address $bare) { $bare }
}

# What is to be done about the source VIP: Action is none, use, reserve or wait. Address and Why go with it.
function Resolve-SourceVip($settings, $network, $endpoints, $reserved, $subnet) {
    if (-not (Test-Overlay $network)) {
        return @{ Action = 'none'; Address = ''; Why = "the network is of type $($network.Type), which needs no source VIP" }
    }
    if ($settings.SOURCE_VIP) {
        return @{ Action = 'use'; Address = $settings.SOURCE_VIP; Why = 'SOURCE_VIP' }
    }
    if ($settings.SOURCE_VIP_ENDPOINT) {
        $address = Select-EndpointAddress $endpoints $settings.SOURCE_VIP_ENDPOINT
        if ($address) { return @{ Action = 'use'; Address = $address; Why = "the HNS endpoint $($settings.SOURCE_VIP_ENDPOINT)" } }
        return @{ Action = 'wait'; Address = ''; Why = "the HNS endpoint $($settings.SOURCE_VIP_ENDPOINT) is not there yet" }
    }
    if ($settings.HOST_LOCAL) {
        if ($reserved) { return @{ Action = 'use'; Address = $reserved; Why = 'reserved with host-local before' } }
        if ($subnet) { return @{ Action = 'reserve'; Address = ''; Why = "nothing is reserved in $subnet yet" } }
        return @{ Action = 'wait'; Address = ''; Why = "$($settings.SUBNET_FILE) has no range of this node yet" }
    }
    @{ Action = 'wait'; Address = ''; Why = 'the network is an overlay; set SOURCE_VIP, SOURCE_VIP_ENDPOINT or HOST_LOCAL' }
}

# The variables that differ, each with its old and its new value. A variable that is to be empty is not set.
function Compare-Variable($wanted, $current) {
    foreach ($name in @($wanted.Keys | Sort-Object)) {
        if ("$($wanted[$name])" -cne "$($current[$name])") {
            @{ Name = $name; Old = "$($current[$name])"; New = "$($wanted[$name])" }
        }
    }
}

# Windows computes the time of the boot from the clock, so it moves by moments when the clock is set.
function Test-Rebooted([datetime] $before, [datetime] $now) {
    [math]::Abs(($now - $before).TotalSeconds) -gt 60
}

# --- The node --------------------------------------------------------------------------------------------------------

function Write-Line([string] $text) {
    Write-Host "$([datetime]::UtcNow.ToString('yyyy-MM-ddTHH:mm:ssZ')) $text"
}

# Says a thing once, and again only after something else was said.
function Write-Change([string] $text) {
    if ($script:said -cne $text) { Write-Line $text }
    $script:said = $text
}

function Read-Settings {
    $settings = @{}
    foreach ($name in 'NETWORK_NAME', 'SOURCE_VIP', 'SOURCE_VIP_ENDPOINT', 'HOST_LOCAL', 'SUBNET_FILE', 'IPAM_DIRECTORY', 'INTERVAL_SECONDS') {
        $settings[$name] = [Environment]::GetEnvironmentVariable($name)
    }
    $settings
}

function Read-BootTime {
    (Get-CimInstance -ClassName Win32_OperatingSystem).LastBootUpTime
}

function Read-Variables {
    $found = @{}
    foreach ($name in 'CNINetworkName', 'CNISourceVip') {
        $found[$name] = [Environment]::GetEnvironmentVariable($name, 'Machine')
    }
    $found
}

function Write-Variable($change) {
    # An empty value takes the variable away.
    [Environment]::SetEnvironmentVariable($change.Name, $change.New, 'Machine')
    Write-Line "$($change.Name): '$($change.Old)' -> '$($change.New)'"
}

function Read-Lines([string] $path) {
    if ($path -and (Test-Path -LiteralPath $path)) { @(Get-Content -LiteralPath $path) } else { @() }
}

function Read-Reservations($settings) {
    if (-not $settings.HOST_LOCAL) { return }
    $directory = Join-Path $settings.IPAM_DIRECTORY $settings.NETWORK_NAME
    if (-not (Test-Path -LiteralPath $directory)) { return }
    foreach ($file in @(Get-ChildItem -LiteralPath $directory -File)) {
        @{ Name = $file.Name; Lines = @(Read-Lines $file.FullName) }
    }
}

# Reserves an address as flannel does it: for the container kube-proxy and the interface source-vip.
function Add-Reservation($settings, [string] $subnet) {
    $request = @{
        cniVersion = '1.0.0'
        name       = $settings.NETWORK_NAME
        ipam       = @{ type = 'host-local'; dataDir = $settings.IPAM_DIRECTORY; ranges = @(, @(@{ subnet = $subnet })) }
    } | ConvertTo-Json -Depth 6 -Compress
    $env:CNI_COMMAND = 'ADD'
    $env:CNI_CONTAINERID = 'kube-proxy'
    $env:CNI_NETNS = 'kube-proxy'
    $env:CNI_IFNAME = 'source-vip'
    $env:CNI_PATH = Split-Path -Parent $settings.HOST_LOCAL
    $answer = $request | & $settings.HOST_LOCAL | Out-String
    if ($LASTEXITCODE -ne 0) { throw "host-local could not reserve an address in ${subnet}: $answer" }
    Write-Line "host-local reserved an address in ${subnet}: $($answer.Trim())"
    $address = Select-AnsweredAddress ($answer | ConvertFrom-Json)
    if (-not $address) { throw 'host-local answered without an address' }
    $address
}

# One look at the node. Returns whether both variables are right now.
function Update-Node($settings) {
    $network = Select-Network @(Get-HnsNetwork) $settings.NETWORK_NAME
    if (-not $network) {
        Write-Change "waiting for the HNS network $($settings.NETWORK_NAME)"
        return $false
    }
    $reserved = Select-Reservation @(Read-Reservations $settings) 'kube-proxy' 'source-vip'
    $subnet = ConvertTo-Subnet @(Read-Lines $settings.SUBNET_FILE)
    $vip = Resolve-SourceVip $settings $network @(Get-HnsEndpoint) $reserved $subnet
    if ($vip.Action -eq 'wait') {
        Write-Change "waiting for a source VIP: $($vip.Why)"
        return $false
    }
    if ($vip.Action -eq 'reserve') { $vip.Address = Add-Reservation $settings $subnet }
    $wanted = @{ CNINetworkName = $settings.NETWORK_NAME; CNISourceVip = $vip.Address }
    foreach ($change in @(Compare-Variable $wanted (Read-Variables))) { Write-Variable $change }
    Write-Change "CNINetworkName is $($settings.NETWORK_NAME), CNISourceVip is '$($vip.Address)' ($($vip.Why))"
    $true
}

function Start-Watch($settings) {
    $booted = Read-BootTime
    while ($true) {
        $now = Read-BootTime
        if (Test-Rebooted $booted $now) {
            Write-Line "the node has booted at $now; starting over"
            $script:said = ''
            $booted = $now
        }
        try {
            Update-Node $settings | Out-Null
        } catch {
            Write-Change "trying again: $_"
        }
        Start-Sleep -Seconds $settings.INTERVAL_SECONDS
    }
}

$script:said = ''
$settings = Read-Settings
$mistakes = @(Find-Mistake $settings)
foreach ($mistake in $mistakes) { Write-Line "error: $mistake" }
if ($mistakes.Count) { exit 64 }
Start-Watch $settings
